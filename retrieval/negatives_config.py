"""What a query's chosen item is told apart from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from interactions.config import Config


class NegativesConfig(Config):
    """Where a batch's negatives come from; any mixture."""

    full_up_to: int = Field(default=4096, ge=0)
    """A catalogue of at most this many items is scored whole, and nothing is sampled."""
    in_batch: bool = True
    """The targets of the batch's other windows."""
    uniform: int = Field(default=1024, ge=0)
    """Items drawn uniformly for a batch."""
    popular: int = Field(default=0, ge=0)
    """Draws by popularity for a batch; an item drawn twice stands once."""
    popular_power: float = Field(default=0.75, ge=0, le=1)
    """Popularity is the number of windows an item is a target in, to this power."""
    kept_batches: int = Field(default=0, ge=0)
    """How many earlier batches' targets are kept; they are embedded with today's weights."""
    hard: int = Field(default=0, ge=0)
    """Items mined from the index for each window."""
    frequency: Literal["counts", "streaming"] = "counts"
    """How often an item is among a batch's targets: counted before training, or estimated from the
    batches as they come, for data too large to count."""

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Self:
        if not (self.in_batch or self.uniform or self.popular or self.hard or self.full_up_to):
            raise ValueError(
                "there is no source of negatives; set in_batch, uniform, popular, hard or "
                "full_up_to"
            )
        if self.kept_batches and not self.in_batch:
            raise ValueError(
                f"kept_batches is {self.kept_batches}, but batches' targets are no negatives here; "
                "set in_batch: true"
            )
        if self.popular and self.frequency == "streaming":
            raise ValueError(
                f"popular is {self.popular}, which needs counts; set frequency: counts"
            )
        return self
