"""How the ranker is built and trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from interactions.config import Config
from training.config import ScheduleConfig


class RankingConfig(Config):
    """Sizes, candidates, schedule, and how the tasks make one order."""

    candidates: int = Field(default=200, ge=1)
    """How many items a served request retrieves and ranks."""
    negatives: int = Field(default=64, ge=1)
    """Negatives per training query."""
    random_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of the negatives drawn from outside the retrieved candidates."""
    embedding_dim: int = Field(default=16, ge=2)
    """Length of an item's vector, made of its id and content."""
    feature_dim: int = Field(default=8, ge=1)
    cross_layers: int = Field(default=2, ge=0)
    """Layers of DCN-v2."""
    cross_rank: int = Field(default=32, ge=1)
    """Rank of a cross layer's matrix."""
    hidden_dims: tuple[int, ...] = (128, 64)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    id_dropout: float = Field(default=0.8, ge=0, lt=1)
    history: int = Field(default=50, ge=1)
    neighbours: int = Field(default=20, ge=1)
    """Items kept per item that the same people chose."""
    batch_queries: int = Field(default=128, ge=1)
    order: dict[str, float] | Literal["auto"] = "auto"
    """Weight of each task in the order; `auto` gives the other tasks as much as costs the
    retrieval task no more than 1 % of its validation NDCG@10."""
    max_minutes: float = Field(default=12.0, gt=0)
    """Time to train for, validation included; validation usually ends it before."""
    schedule: ScheduleConfig = ScheduleConfig(
        learning_rate=1e-3, weight_decay=1e-4, max_epochs=40, patience=4
    )

    @field_validator("order")
    @classmethod
    def _weights_are_not_negative(
        cls, value: dict[str, float] | Literal["auto"]
    ) -> dict[str, float] | Literal["auto"]:
        if value != "auto":
            for task, weight in value.items():
                if weight < 0:
                    raise ValueError(f"the weight {weight} of {task} must be at least 0")
        return value
