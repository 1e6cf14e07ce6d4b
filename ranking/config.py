"""How the ranker is built and trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from interactions.config import Config
from ranking.order_objective import OrderObjective
from training.config import ScheduleConfig

LOGGING_POLICY = "logging_policy"
"""Name, among the tasks, of what a ranker is told beside their labels: the logarithm of the
probability with which an exposure was shown."""


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
    history_model: Literal["mean", "target_attention", "transformer"] = "target_attention"
    """What a history says of a candidate: its mean, each item as far as it matters to the candidate
    (DIN), or a transformer that the candidate asks."""
    history: int = Field(default=50, ge=1)
    attention_units: int = Field(default=4, ge=1)
    """Hidden units of target attention."""
    attention_heads: int = Field(default=2, ge=1)
    """Heads of the transformer; a divisor of `embedding_dim`."""
    history_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of the transformer."""
    interaction: Literal["dcn", "dot", "none"] = "dcn"
    """How features are combined below experts and towers: DCN-v2, dot products of fields or not."""
    cross_layers: int = Field(default=2, ge=0)
    """Layers of DCN-v2."""
    cross_rank: int = Field(default=32, ge=1)
    """Rank of a cross layer's matrix."""
    dot_fields: int = Field(default=4, ge=2)
    """Vectors that the dot interaction makes of each side."""
    experts: Literal["none", "shared_bottom", "mmoe", "ple"] = "none"
    """What tasks share beyond embeddings, history and interaction, below the towers of their own:
    nothing, layers, experts that each task mixes (MMoE), or these beside experts of each task
    (PLE)."""
    expert_count: int = Field(default=2, ge=1)
    """Experts of MMoE; shared experts of PLE."""
    own_experts: int = Field(default=1, ge=1)
    """Experts of each task in PLE."""
    hidden_dims: tuple[PositiveInt, ...] = (128,)
    """Layers of the shared bottom or of one expert; of PLE's experts one for each level. Not read
    where `experts` is none."""
    tower_dims: tuple[PositiveInt, ...] = (128, 64)
    """Layers of each task's tower, none for a head straight on what tasks share."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    id_dropout: float = Field(default=0.8, ge=0, lt=1)
    neighbours: int = Field(default=20, ge=1)
    """Items kept per item that the same people chose."""
    logging_policy: bool = True
    """Whether the ranker is told what the policy that filled the log would show, learnt from
    `data.propensity`, where there is one; a learnt order then counts what was shown anyway less."""
    balance: Literal["fixed", "uncertainty", "gradnorm", "pcgrad"] = "fixed"
    """How the tasks' losses are weighed while training; `tasks.*.weight` scales them before."""
    gradnorm_alpha: float = Field(default=0.5, ge=0)
    """How strongly GradNorm draws the tasks to one rate of training."""
    gradnorm_learning_rate: float = Field(default=0.025, gt=0)
    half_life_days: float | None = Field(default=None, gt=0)
    """Age at which an event of the ranking window counts half in the losses; None counts all alike.
    Needs a log with times."""
    calibration: Literal["auto", "none", "platt", "isotonic"] = "auto"
    """How predictions are calibrated on validation; `auto` takes what does best on users it was not
    fitted on, for a regression also a blend with what its factors expect. Unless `none`, the
    retrieval task's logit is blended with the retrieval score."""
    batch_queries: int = Field(default=128, ge=1)
    order: dict[str, float] | Literal["auto"] = "auto"
    """Weight of each task in the order; `auto` learns them on validation for the `objective`."""
    objective: OrderObjective = OrderObjective()
    """What learned weights are to achieve."""
    max_minutes: float = Field(default=12.0, gt=0)
    """Time to train for, validation included; validation usually ends it before."""
    schedule: ScheduleConfig = ScheduleConfig(
        learning_rate=1e-3, weight_decay=1e-4, average=0.99, max_epochs=40, patience=4
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
            if not any(value.values()):
                raise ValueError(
                    f"{value} orders nothing; give a task a weight above 0, or write auto"
                )
        return value

    @model_validator(mode="after")
    def _experts_have_layers(self) -> Self:
        if self.experts != "none" and not self.hidden_dims:
            raise ValueError(
                f"experts is {self.experts}, and hidden_dims names no layer for them; give some, "
                "or write experts: none"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_the_vector(self) -> Self:
        if self.history_model == "transformer" and self.embedding_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads is {self.attention_heads}, which does not divide embedding_dim "
                f"{self.embedding_dim}; choose a divisor"
            )
        return self
