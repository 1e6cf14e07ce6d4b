"""How long and how fast a model learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from interactions.config import Config


class ScheduleConfig(Config):
    """The optimiser's schedule and when to stop."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The largest one: what the warm-up reaches and the decay starts from."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises to its full value, in a straight line."""
    decay: Literal["none", "cosine", "linear"] = "none"
    """How the learning rate falls to zero from the warm-up's end to the end of `max_epochs`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW) on matrices and on the rows of tables that a step uses."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Largest global norm of a step's gradients."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Momentum, per step, of the moving average of the weights that is validated and kept; 0 keeps
    the weights themselves."""
    max_epochs: int = Field(default=50, ge=1)
    validation_steps: int = Field(default=2000, ge=1)
    """An epoch of more steps is cut into equal rounds of at most this many, each validated."""
    patience: int = Field(default=4, ge=1)
    """Validations (one per epoch, or per round of a long one) without a better metric before
    training stops."""
