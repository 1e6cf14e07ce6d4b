"""A comparison as Markdown tables, as JSON and as a plot of the tasks against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ranking.contenders import OURS, SINGLE
from benchmarks.ranking.results import LOWER_IS_BETTER, Comparison, Result
from benchmarks.retrieval.datasets import ABOUT
from benchmarks.tables import interval, percent, plain, rounded, table
from evaluation.bootstrap import Estimate
from evaluation.plots import save_figure

MARGIN = 0.01
"""A joint model may be worse than a single-task one by so much, relatively, and no more."""
_CHOICE = "retrieval_task.ndcg@10"
_ACROSS = 4
"""Panels of the plot in a row."""


def markdown(comparison: Comparison) -> str:
    """Return the tables of one data set."""
    labelled = ", ".join(f"{n:,} with {task}" for task, n in comparison.exposures.items())
    parts = [
        f"## {ABOUT[comparison.data]}",
        f"{comparison.queries:,} test queries with {comparison.candidates:.0f} candidates each, "
        f"which hold the chosen item of {comparison.found:.1%}; exposures: {labelled or 'none'}.",
        _quality(comparison),
        _pairs(comparison),
        _seesaw(comparison),
        _deciles(comparison),
        _off_policy(comparison),
        _costs(comparison),
        _notes(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return every figure as plain values; NaN becomes null."""
    content = {
        name: getattr(comparison, name)
        for name in ("data", "queries", "candidates", "found", "exposures")
    }
    results = [
        {
            "name": result.name,
            "title": result.title,
            "note": result.note,
            "metrics": {name: asdict(metric) for name, metric in result.metrics.items()},
            "costs": list(result.costs),
            "off_policy": {event: asdict(one) for event, one in result.off_policy.items()},
            "served_deciles": [one.tolist() for one in result.served_deciles],
        }
        for result in comparison.results
    ]
    pairs = {
        name: {metric: asdict(gain) for metric, gain in gains.items()}
        for name, gains in comparison.pairs.items()
    }
    return plain({**content, "results": results, "relative_gain_of_tandem_over": pairs})


def plot(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw each task's gain over the single-task model against that of the retrieval task.

    Above and to the right of the cross both gain; a seesaw lies in the other two quarters. Bars are
    95 % intervals, of ours, over users and seeds. Data sets without single-task models, or without
    a second task, are left out.
    """
    panels = [
        (comparison, metric)
        for comparison in comparisons
        if SINGLE in _by_name(comparison)
        for metric in _by_name(comparison)[SINGLE].metrics
        if metric.endswith((".rmse", ".log_loss")) and not metric.startswith("retrieval_task")
    ]
    if not panels:
        return
    rows = -(-len(panels) // _ACROSS)
    columns = min(len(panels), _ACROSS)
    figure = Figure(figsize=(5.0 * columns, 4.4 * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    for (comparison, metric), axes in zip(panels, every[: len(panels)], strict=True):
        axes.axhline(0, color="0.7")
        axes.axvline(0, color="0.7")
        alone = _by_name(comparison)[SINGLE]
        for result in comparison.results:
            if _CHOICE not in result.metrics or metric not in result.metrics:
                continue
            across = 100 * _gain(_CHOICE, result, alone)
            up = 100 * _gain(metric, result, alone)
            axes.scatter(across, up, zorder=3)
            gains = comparison.pairs.get(SINGLE, {})
            if result.name == OURS and {_CHOICE, metric} <= gains.keys():
                axes.errorbar(
                    across,
                    up,
                    xerr=_ends(gains[_CHOICE], across),
                    yerr=_ends(gains[metric], up),
                    color="0.5",
                    capsize=2,
                )
            axes.annotate(result.title, (across, up), (4, 4), textcoords="offset points", size=8)
        axes.set(
            title=f"{ABOUT[comparison.data]}: {metric.split('.')[0]}",
            xlabel="NDCG@10 of the retrieval task: gain over it alone, %",
            ylabel=f"{metric}: gain over the task alone, %",
        )
        axes.title.set_size(9)
        axes.margins(0.25)
    save_figure(figure, path)


def _ends(gain: Estimate, value: float) -> list[list[float]]:
    """How far the ends of a relative gain's interval are from `value`, in per cent."""
    return [[max(value - 100 * gain.low, 0.0)], [max(100 * gain.high - value, 0.0)]]


def _quality(comparison: Comparison) -> str:
    """One row per contender, one column per metric that anybody has."""
    names = list(dict.fromkeys(m for one in comparison.results for m in one.metrics))
    first = [name for name in names if "." not in name]
    names = first + sorted(name for name in names if name not in first)
    rows = [
        [
            result.title,
            *(
                interval(result.metrics[name].estimate) if name in result.metrics else ""
                for name in names
            ),
        ]
        for result in comparison.results
    ]
    return table(["model", *names], rows)


def _pairs(comparison: Comparison) -> str:
    """By how many percent of theirs ours is larger than others', or its error smaller."""
    if not comparison.pairs:
        return ""
    names = list(dict.fromkeys(m for gains in comparison.pairs.values() for m in gains))
    titles = {result.name: result.title for result in comparison.results}
    rows = [
        [titles[name], *(percent(gains[m]) if m in gains else "" for m in names)]
        for name, gains in comparison.pairs.items()
    ]
    return table(
        [
            "gain of Tandem over",
            *(f"{m} smaller by" if m.endswith(LOWER_IS_BETTER) else m for m in names),
        ],
        rows,
    )


def _seesaw(comparison: Comparison) -> str:
    """Say of each task whether learning all of them together has cost it anything."""
    gains = comparison.pairs.get(SINGLE, {})
    tasks = {
        m: gain for m, gain in gains.items() if m == _CHOICE or m.endswith((".rmse", ".log_loss"))
    }
    if not tasks:
        return ""
    lost = [metric for metric, gain in tasks.items() if not gain.low >= -MARGIN]
    won = [metric for metric, gain in tasks.items() if gain.low > 0]
    return (
        f"Against one model per task, the joint one is non-inferior (lower end at least "
        f"{-MARGIN:.0%}) in {len(tasks) - len(lost)} of {len(tasks)} tasks"
        f"{' (not in ' + ', '.join(lost) + ')' if lost else ''}, and better in "
        f"{', '.join(won) or 'none'}."
    )


def _deciles(comparison: Comparison) -> str:
    """Predicted over true purchases among the ten best, lowest predictions first."""
    rows = [
        [result.title, *(f"{ratio:.2f}" for ratio in np.mean(result.served_deciles, axis=0))]
        for result in comparison.results
        if result.served_deciles
    ]
    if not rows:
        return ""
    header = [
        "predicted over true purchases, decile",
        *(str(n + 1) for n in range(len(rows[0]) - 1)),
    ]
    return table(header, rows)


def _off_policy(comparison: Comparison) -> str:
    """What an exposure drawn from the ten best would earn, estimated from the log, and in truth."""
    rows = [
        [
            f"{result.title}: {event}",
            interval(one.estimated.inverse_propensity),
            interval(one.estimated.self_normalised),
            "" if one.estimated.doubly_robust is None else interval(one.estimated.doubly_robust),
            f"{one.truth:.4f}",
            interval(one.estimated.mean_weight),
            rounded(one.estimated.effective_rows),
        ]
        for result in comparison.results
        for event, one in result.off_policy.items()
    ]
    header = [
        "per exposure of the ten best, from logged pages", "inverse propensity", "self-normalised",
        "doubly robust", "truth", "mean weight", "effective rows",
    ]  # fmt: skip
    return table(header, rows) if rows else ""


def _costs(comparison: Comparison) -> str:
    rows = []
    for result in comparison.results:
        seconds, trained = (_cost(result, f"training_{what}") for what in ("seconds", "rows"))
        answered = _cost(result, "answered") / max(_cost(result, "answer_seconds"), 1e-9)
        rows.append(
            [
                result.title,
                f"{seconds:,.1f}",
                rounded(trained / seconds) if trained and seconds else "",
                rounded(answered),
            ]
        )
    header = ["model", "training and tuning, s", "training rows/s", "scored candidates/s"]
    return table(header, rows)


def _notes(comparison: Comparison) -> str:
    lines = []
    for result in comparison.results:
        notes = "; ".join(f"{name}: {value}" for name, value in result.costs[0]["notes"].items())
        main = next(iter(result.metrics), None)
        spread = ""
        if main is not None and len(result.costs) > 1:
            deviation = np.std(result.metrics[main].by_seed, ddof=1)
            spread = f"; {main} of {len(result.costs)} seeds: standard deviation {deviation:.4f}"
        lines.append(f"- {result.title}: {result.note}{'; ' + notes if notes else ''}{spread}.")
    return "\n".join(lines)


def _gain(metric: str, result: Result, alone: Result) -> float:
    mine, theirs = (one.metrics[metric].estimate.value for one in (result, alone))
    if not theirs:
        return float("nan")
    gain = mine / theirs - 1.0
    return -gain if metric.endswith(LOWER_IS_BETTER) else gain


def _cost(result: Result, what: str) -> float:
    return float(np.mean([run[what] for run in result.costs]))


def _by_name(comparison: Comparison) -> dict[str, Result]:
    return {result.name: result for result in comparison.results}
