"""What a server's answers look like to the caller of the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a list, with the scores of both stages."""

    item_id: str
    score: float
    """What the list is ordered by."""
    retrieval_score: float
    tasks: Mapping[str, float]
    """The ranking model's prediction per task, by the task's name."""
    because: str = ""
    """The item of the user's history that is closest to it, where that was asked for."""
    because_score: float | None = None
    """Cosine of the two items' embeddings."""


@dataclass(frozen=True)
class Recommendations:
    """A user's items, best first; fewer than were asked for where no more are allowed."""

    user_id: str
    items: tuple[RecommendedItem, ...]
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """How much each task counted in the score, where the request had wishes."""


@dataclass(frozen=True)
class Prediction:
    """The outputs of one signature of one model version."""

    model: str
    version: int
    signature: str
    outputs: Mapping[str, np.ndarray]
    """By output name; strings are object arrays of bytes."""


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error: str
    """Why loading failed; empty where it did not."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature."""

    dtype: str
    """TensorFlow's name, such as DT_STRING."""
    shape: tuple[int | None, ...] | None
    """None for a dimension of any size; None in place of all where the rank is unknown."""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class ModelMetadata:
    """The signatures of one model version, by name."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
