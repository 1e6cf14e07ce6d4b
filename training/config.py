"""How long and how fast a model learns."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config


class ScheduleConfig(Config):
    """The optimiser's schedule and when to stop."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW) on every trained weight but biases."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Largest global norm of a step's gradients."""
    max_epochs: int = Field(default=50, ge=1)
    patience: int = Field(default=4, ge=1)
    """Epochs without a better validation metric before training stops."""
    max_minutes: float = Field(default=60.0, gt=0)
    """Training stops after the epoch in which this time has passed."""
