"""A comparison as Markdown tables, as JSON and as a plot of quality against training time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.retrieval.datasets import ABOUT
from benchmarks.retrieval.results import PAIRED, Comparison, Result
from benchmarks.tables import interval, plain, rounded, table
from evaluation.plots import save_figure

QUALITY = ("ndcg@10", "recall@10", "recall@100", "recall@200", "ndcg@100", "ndcg@200")
"""With one true item per query the hit rate is the recall; the table says so."""
LEAST_SECONDS = 1e-2
"""The left edge of the plot, for contenders that only count."""


def markdown(comparison: Comparison) -> str:
    """Return the tables of one data set."""
    parts = [
        f"## {ABOUT[comparison.data]}",
        f"{comparison.queries:,} test queries of {comparison.users:,} users, "
        f"{comparison.catalogue:,} items that could be recommended, {comparison.events:,} training "
        f"events; {comparison.cold_queries:,} queries whose item has no training event (cold).",
        _quality(comparison),
        _paired(comparison),
        _costs(comparison),
        _notes(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything but the values per query as plain values; NaN becomes null."""
    content = asdict(comparison)
    for result in content["results"]:
        del result["per_query"]
    return plain(content)


def plot(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw NDCG@10 with its interval against training time, one panel per data set."""
    figure = Figure(figsize=(5.5 * len(comparisons), 4.2), layout="constrained")
    panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for comparison, axes in zip(comparisons, panels, strict=True):
        for result in comparison.results:
            estimate = result.estimates["ndcg@10"]
            seconds = max(_mean(result, lambda run: run.training_seconds), LEAST_SECONDS)
            ends = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            axes.errorbar(seconds, estimate.value, yerr=np.nan_to_num(ends), fmt="o", capsize=3)
            axes.annotate(
                result.title, (seconds, estimate.value), (4, 4), textcoords="offset points", size=8
            )
        axes.set(
            title=ABOUT[comparison.data], xlabel="training time, seconds", ylabel="NDCG@10",
            xscale="log",
        )  # fmt: skip
        axes.title.set_size(9)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.25)
    save_figure(figure, path)


def _quality(comparison: Comparison) -> str:
    metrics = [m for m in QUALITY if m in comparison.results[0].estimates]
    names = [m.replace("recall", "recall = hit rate ").replace("ndcg", "NDCG") for m in metrics]
    header = ["model", *names, "coverage@10", "cold recall@100"]
    rows = [
        [
            result.title,
            *(interval(result.estimates[metric]) for metric in metrics),
            f"{result.estimates['coverage@10'].value:.3f}",
            "" if result.cold is None else interval(result.cold),
        ]
        for result in comparison.results
    ]
    return table(header, rows)


def _paired(comparison: Comparison) -> str:
    if not comparison.pairs:
        return ""
    titles = {result.name: result.title for result in comparison.results}
    metrics = [m for m in PAIRED if all(m in pairs for pairs in comparison.pairs.values())]
    header = ["Tandem against"]
    for metric in metrics:
        header += [f"{metric}: ratio", "difference"]
    rows = [
        [
            titles[name],
            *(
                interval(estimate, signed=signed)
                for metric in metrics
                for estimate, signed in (
                    (pairs[metric].ratio, False), (pairs[metric].difference, True),
                )
            ),
        ]
        for name, pairs in comparison.pairs.items()
    ]  # fmt: skip
    return table(header, rows)


def _costs(comparison: Comparison) -> str:
    header = [
        "model", "training, s", "tuning, s", "training events/s", "evaluation queries/s",
        "peak memory, MiB", "of it before training",
    ]  # fmt: skip
    rows = []
    for result in comparison.results:
        seconds = _mean(result, lambda run: run.training_seconds)
        events = _mean(result, lambda run: run.training_events)
        asked = _mean(result, lambda run: run.evaluation_queries / run.evaluation_seconds)
        rows.append(
            [
                result.title,
                f"{seconds:,.2f}" if seconds < 10 else f"{seconds:,.0f}",
                f"{result.choice.seconds:,.0f}",
                rounded(events / seconds) if seconds else "",  # nothing is trained
                rounded(asked),
                f"{_mean(result, lambda run: run.peak_mib):,.0f}",
                f"{_mean(result, lambda run: run.idle_mib):,.0f}",
            ]
        )
    return table(header, rows)


def _notes(comparison: Comparison) -> str:
    lines = []
    for result in comparison.results:
        settings = {**result.choice.training, **result.choice.asking}
        chosen = ", ".join(f"{name} {value}" for name, value in settings.items())
        seeds = len(result.runs)
        spread = (
            f"; NDCG@10 of {seeds} seeds: standard deviation "
            f"{np.std(result.by_seed['ndcg@10'], ddof=1):.4f}"
            if seeds > 1
            else ""
        )
        tuned = f"; chosen of {len(result.choice.tried)}: {chosen}" if result.choice.tried else ""
        lines.append(f"- {result.title}: {result.note}{tuned}{spread}.")
    return "\n".join(lines)


def _mean(result: Result, of: Callable[[Any], float]) -> float:
    return float(np.mean([of(run) for run in result.runs]))
