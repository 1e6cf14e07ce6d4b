"""The contract of everything that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.retrieval.problem import Problem
from interactions.queries import Queries

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """How long a contender took to answer queries over the whole catalogue."""

    queries: int
    seconds: float


@dataclass(frozen=True)
class Point:
    """Where training stood after an epoch."""

    seconds: float
    """Of training alone, without validation."""
    ndcg: float
    """NDCG@10 on the validation queries."""


@dataclass(frozen=True)
class Fitted:
    """A trained contender."""

    rank: Callable[[Queries, Settings], np.ndarray]
    """Queries and settings of asking -> lists [queries, K] int32, -1 at the end."""
    seconds: float
    """Training time."""
    events: int
    """Training events processed: those of an epoch times the epochs."""
    curve: tuple[Point, ...] = ()
    """By epoch, of a contender that is stopped on validation."""
    evaluate: Callable[[Queries], Evaluation] | None = None
    """The contender's own evaluation over the catalogue, where that is not `rank`."""


@dataclass(frozen=True)
class Contender:
    """A way to recommend, and the grid it is tuned on.

    Every pair of a `training` and an `asking` setting is tried on the validation queries; the best
    by NDCG@10 is judged. With a single pair nothing is tuned.
    """

    title: str
    note: str
    """What a reader of the table should know."""
    fit: Callable[[Problem, Settings, int], Fitted]
    """Problem, training settings and seed -> trained on the retrieval and ranking windows."""
    training: tuple[Settings, ...] = ({},)
    asking: tuple[Settings, ...] = ({},)
    """Settings that need no new training."""
    seeded: bool = False
    """Whether results depend on the seed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of its process."""

    @property
    def tuned(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.training) * len(self.asking) > 1


def grid(**axes: tuple[Any, ...]) -> tuple[Settings, ...]:
    """Return every combination of the axes' values, the last axis fastest."""
    settings: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        settings = [{**one, name: value} for one in settings for value in values]
    return tuple(settings)
