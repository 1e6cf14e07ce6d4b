"""What a ranker is made from, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from features.backend import tf
from features.encoders import FeatureSpec
from features.entities import EncodedTable
from interactions.config import TaskConfig

RETRIEVAL = "retrieval"
"""Name of the task that every ranker has: which candidate was chosen."""


@dataclass(frozen=True)
class RankerInputs:
    """The encoded tables that a ranker gathers from, and the tasks it learns."""

    users: EncodedTable
    items: EncodedTable
    context: tuple[FeatureSpec, ...]
    item_id: str
    user_id: str
    tasks: Mapping[str, TaskConfig]
    """By name, those with a weight above 0; the retrieval task is among them."""
    label_mean: Mapping[str, float]
    label_std: Mapping[str, float]
    label_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest label seen, by task: the bounds of what is expected of it, and of a
    regression's predictions, without a declared range; one that is not here either has none."""

    def bounds(self, task: str) -> tuple[float, float] | None:
        """Return what labels lie between, None where nothing bounds them."""
        declared = self.tasks[task].range if task in self.tasks else None
        low, high = declared or self.label_range.get(task, (0.0, 0.0))
        return (low, high) if low < high else None


@dataclass(frozen=True)
class Request:
    """Queries and the candidates of each."""

    users: tf.Tensor
    """[B] int32 user rows, -1 is unknown."""
    history: tf.Tensor
    """[B, H] int32 item rows, oldest first, padded at the end with -1."""
    context: Mapping[str, tf.Tensor]
    """By feature, [B] or [B, width], encoded."""
    candidates: tf.Tensor
    """[B, C] int32 item rows, -1 where there are fewer."""
    retrieval_score: tf.Tensor
    """[B, C] float32, standardised."""
    about: Mapping[str, tf.Tensor] | None = None
    """What is known of the users, by feature, encoded; the table's where left out."""


@dataclass(frozen=True)
class ItemVectors:
    """What the ranker makes of a request's items."""

    candidates: tf.Tensor
    """[B, C, D] float32."""
    history: tf.Tensor
    """[B, H, D] float32."""
