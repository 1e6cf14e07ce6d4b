"""The index of an export: chosen, measured, and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from evaluation.plots import save_figure
from export.config import ExportConfig
from export.manifest import IndexEntry, ScannEntry
from export.system import System, queries_now
from retrieval.index_choice import AUTO_FROM, Choice, Measured, choose_index

PLOT = "index.png"
"""In the bundle, where settings were measured."""
_QUERIES = 1024
"""Users whose queries recall is measured on."""


def index_for(system: System, *, config: ExportConfig, k: int, seed: int = 0) -> Choice:
    """Choose what retrieves the best `k` items for the users of `system`.

    Raises:
        UserError: the config asks for ScaNN, and it is not to be had.
    """
    searcher = system.searcher
    if config.index == "scann" or (config.index == "auto" and searcher.offered.sum() >= AUTO_FROM):
        users = np.random.default_rng(seed).permutation(len(system.log.user_ids))[:_QUERIES]
        queries = searcher.embed(queries_now(users.astype(np.int32)))
    else:  # nothing is measured
        queries = np.zeros((0, searcher.embeddings.shape[1]), np.float32)
    return choose_index(
        searcher.index,
        searcher.embeddings,
        offered=searcher.offered,
        queries=queries,
        asked=config.index,
        recall=config.index_recall,
        k=k,
    )


def index_entry(choice: Choice, *, recall: float, k: int) -> IndexEntry:
    """Describe an index; `recall` is that of the answers compared at export."""
    return IndexEntry(
        kind=choice.kind,
        is_exact=choice.index.is_exact(),
        recall=recall if choice.chosen is None else choice.chosen.recall,
        k=k,
        reason=choice.reason,
        exact_milliseconds=choice.exact_milliseconds,
        scann=None if choice.chosen is None else _entry(choice.chosen),
        curve=tuple(_entry(measured) for measured in choice.curve),
    )


def _entry(measured: Measured) -> ScannEntry:
    return ScannEntry(
        leaves=measured.leaves,
        searched=measured.searched,
        reordered=measured.reordered,
        recall=measured.recall,
        milliseconds=measured.milliseconds,
    )


def plot_curve(index: IndexEntry, path: Path) -> None:
    """Draw recall against the time of a query, a point for each setting that was measured.

    Raises:
        UserError: `path` cannot be written.
    """
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for leaves in sorted({point.leaves for point in index.curve}):
        points = [point for point in index.curve if point.leaves == leaves]
        axes.scatter(
            [point.milliseconds for point in points],
            [point.recall for point in points],
            label=f"{leaves:,} leaves",
        )
    if index.scann is not None:
        place = (index.scann.milliseconds, index.scann.recall)
        axes.scatter(*place, s=160, facecolors="none", edgecolors="black", label="chosen")
    if index.exact_milliseconds is not None:
        axes.axvline(index.exact_milliseconds, color="0.6", linestyle="--", label="exact index")
    axes.set(
        xlabel="milliseconds of one query (median)", ylabel=f"recall of the true top {index.k}"
    )
    axes.legend()
    save_figure(figure, path)
