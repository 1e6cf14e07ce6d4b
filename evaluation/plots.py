"""Plots of a run's metrics as PNG files; drawn without a display and without global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.metrics import CalibrationCurve
from evaluation.report import WHATS, Metrics
from interactions.errors import UserError


def plot_models(
    metrics: Metrics,
    path: Path,
    *,
    columns: Sequence[str] = ("ndcg@10", "hit_rate@10"),
    whats: Sequence[str] = WHATS,
) -> None:
    """Draw one panel per metric with a bar and its interval per model measured.

    Raises ValueError where none of `columns` was measured, UserError where `path` is unwritable.
    """
    shown = [column for column in columns if any(column in metrics.of(what) for what in whats)]
    if not shown:
        raise ValueError(f"none of {list(columns)} was measured; name metrics that were")
    figure = Figure(figsize=(4.5 * len(shown), 3.5), layout="constrained")
    for column, axes in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
        rows = {what: metrics.of(what)[column] for what in whats if column in metrics.of(what)}
        values = np.array([row.value for row in rows.values()])
        low = np.array([_or(row.low, row.value) for row in rows.values()])
        high = np.array([_or(row.high, row.value) for row in rows.values()])
        axes.barh(range(len(rows)), values, xerr=[values - low, high - values], capsize=4)
        axes.set_yticks(range(len(rows)), [what.replace("_", " ") for what in rows])
        axes.invert_yaxis()  # the first model on top, as in the table
        axes.set_xlabel(column)
        axes.set_xlim(left=0)
    save_figure(figure, path)


def plot_calibration(curves: Mapping[str, CalibrationCurve], path: Path) -> None:
    """Draw, per task, mean prediction against mean label in bins of equal count.

    Raises ValueError without a curve, UserError where `path` is unwritable.
    """
    if not curves:
        raise ValueError("curves: no task to draw; give at least one calibration curve")
    figure = Figure(figsize=(4.0 * len(curves), 3.8), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for (task, curve), axes in zip(curves.items(), panels, strict=True):
        ends = [
            min(curve.predicted.min(), curve.observed.min()),
            max(curve.predicted.max(), curve.observed.max()),
        ]
        axes.plot(ends, ends, color="0.7", linestyle="--", label="calibrated")
        axes.plot(curve.predicted, curve.observed, marker="o", label="measured")
        axes.set(title=task, xlabel="mean prediction", ylabel="mean label")
        axes.legend()
    save_figure(figure, path)


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` as PNG; raises `UserError` where that cannot be written."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); name a folder you may write to"
        ) from error
