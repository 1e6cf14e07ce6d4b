"""How a trained system is exported."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config


class ExportConfig(Config):
    """Widths of the served answers, and what an export must pass before it is published."""

    max_k: int = Field(default=100, ge=1)
    """Items in a served answer; a request may use fewer."""
    max_batch: int = Field(default=32, ge=1)
    """Largest batch of requests that a server forms, and that is warmed up."""
    keep: int = Field(default=3, ge=1)
    """Versions that stay in the bundle, the newest ones."""
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest difference between the exported and the Python models, relative above 1."""
    parity_users: int = Field(default=64, ge=1)
    """Users whose answers are compared before the bundle is published."""
