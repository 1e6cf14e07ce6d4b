"""Which index answers: by the size of the catalogue, and ScaNN's settings by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np

from interactions.errors import UserError
from retrieval.config import AskedIndex
from retrieval.index import ExactIndex, Index

AUTO_FROM = 500_000
"""Items from which `auto` tries ScaNN: there one exact query takes some 10 ms."""
FEWEST = 1_000
"""Items below which there is nothing to partition."""


@dataclass(frozen=True)
class Measured:
    """ScaNN with some settings, on queries of this catalogue."""

    leaves: int
    """Partitions of the catalogue."""
    searched: int
    """Partitions that a query looks into."""
    reordered: int
    """Best items by quantised score whose true score is computed."""
    recall: float
    """Share of the true top k that was found."""
    milliseconds: float
    """Median time of one query."""


@dataclass(frozen=True)
class Choice:
    """The index that is exported."""

    index: Index
    reason: str
    """Why, in one sentence."""
    exact_milliseconds: float | None = None
    """Median time of one query of the exact index; None where nothing was measured."""
    chosen: Measured | None = None
    """What ScaNN does with the settings that it got; None for the exact index."""
    curve: tuple[Measured, ...] = ()
    """Everything that was measured on the way, fastest first."""

    @property
    def kind(self) -> Literal["exact", "scann"]:
        """The index's name."""
        return "exact" if self.index.is_exact() else "scann"


def choose_index(
    exact: ExactIndex,
    embeddings: np.ndarray,
    *,
    offered: np.ndarray,
    queries: np.ndarray,
    asked: AskedIndex,
    recall: float,
    k: int,
) -> Choice:
    """Return the index that answers over `embeddings` [items, D] float32.

    ScaNN gets the fastest settings that find `recall` of the true top `k` of `queries` [Q, D]
    float32, in either half of them by three standard errors; `auto` takes it for a large catalogue,
    if it is faster. Only items that are `offered` [items] bool are found.

    Raises:
        UserError: `asked` is scann, and the package is missing, the catalogue is too small, or no
            settings reach the recall.
    """
    items = int(offered.sum())
    if asked == "exact":
        more = f"; index: auto may be faster from {AUTO_FROM:,} items on, and says what it needs"
        return Choice(exact, f"asked for{more if items >= AUTO_FROM else ''}")
    if asked == "auto" and items < AUTO_FROM:
        return Choice(exact, f"{items:,} items are fewer than {AUTO_FROM:,}: exact is fast enough")
    refusal = _refusal(items, queries=len(queries))
    if refusal is None:
        # the core imports without ScaNN
        from retrieval.scann_tuning import tune

        tuned = tune(exact, embeddings, offered=offered, queries=queries, recall=recall, k=k)
        if asked == "auto":
            return _faster(exact, tuned)
        if tuned.chosen is not None:
            return tuned
        refusal = f"{tuned.reason}; lower export.index_recall"
    if asked == "scann":
        raise UserError(f"export.index is scann, but {refusal}; or set export.index: exact")
    return Choice(exact, f"ScaNN is not possible: {refusal}")


def _faster(exact: ExactIndex, tuned: Choice) -> Choice:
    """Return ScaNN, or the exact index where it takes no longer."""
    took, slowest = tuned.chosen, tuned.exact_milliseconds
    if took is None or slowest is None or took.milliseconds < slowest:
        return tuned
    reason = f"exact search takes {slowest:.2g} ms, ScaNN {took.milliseconds:.2g} ms"
    return Choice(exact, reason, slowest, None, tuned.curve)


def _refusal(items: int, *, queries: int) -> str | None:
    """Say why ScaNN cannot be had, or None."""
    if find_spec("scann") is None:
        return "the package scann is not installed; pip install 'tandem[scann]'"
    if items < FEWEST:
        return f"{items:,} items are too few to partition, it takes {FEWEST:,}"
    if queries < 2:
        return f"its recall cannot be measured on {queries} users; give more users"
    return None
