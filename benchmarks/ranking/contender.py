"""The contract of everything that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.ranking.problem import Part, Problem


@dataclass(frozen=True)
class Answers:
    """What a contender says of a window's candidates and exposures."""

    order: np.ndarray | None = None
    """[Q, C] float: what the candidates are ordered by; None of one that makes no order."""
    choice: np.ndarray | None = None
    """[Q, C] float: the order of the retrieval task alone, where that is another."""
    tasks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By task, [exposures] float: probabilities or labels."""
    served: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By task, [Q, C] float: the same of the candidates."""
    unselected: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By task, [pairs] float: the same of the problem's unselected pairs."""


@dataclass(frozen=True)
class Fitted:
    """A trained contender."""

    answer: Callable[[Part], Answers]
    seconds: float = 0.0
    """Training time, tuning included."""
    rows: int = 0
    """Candidates and exposures processed in training, those of an epoch times the epochs; 0 of what
    has no epochs, such as trees."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """What tuning or validation decided."""


@dataclass(frozen=True)
class Contender:
    """A way to order candidates, or to predict tasks, or both; tuned on validation alone."""

    title: str
    note: str
    """What a reader of the table should know."""
    fit: Callable[[Problem, int, bool], Fitted]
    """Problem, seed, and whether to be quick -> trained."""
    seeded: bool = False
    """Whether results depend on the seed."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Keys of `ranking:` in which a version of ours differs; one that does not is left out."""
    selection: str | None = None
    """How a version of ours corrects regressions for selection; left out where labels are not
    selected."""
    needs_truth: bool = False
    """Whether it is left out of data whose truth nobody knows."""
