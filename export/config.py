"""How a trained system is exported."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config
from retrieval.config import AskedIndex


class RequestConfig(Config):
    """Widths of the lists that a request to `recommend` may bring, fixed in the graph.

    Every request carries lists of these widths, padded, so wide ones cost something each time.
    """

    exclude: int = Field(default=100, ge=1)
    """Items that must not come back, beside those that the user has chosen before."""
    allow: int = Field(default=100, ge=1)
    """Items of a list that nothing else may come from."""
    values: int = Field(default=8, ge=1)
    """Values of a filterable category that must match, and as many that must not."""
    pool: int = Field(default=100, ge=1)
    """Best ranked candidates among which diversity and caps choose, at least `max_k`."""


class ExportConfig(Config):
    """Widths of the served answers, and what an export must pass before it is published."""

    max_k: int = Field(default=100, ge=1)
    """Items in a served answer; a request may use fewer."""
    request: RequestConfig = RequestConfig()
    index: AskedIndex = "exact"
    """What answers top k. `exact` needs nothing but TensorFlow; `scann` is approximate, faster over
    large catalogues, and needs a server with ScaNN's operations (ours has them); `auto` takes ScaNN
    for a large catalogue, where it is faster."""
    index_recall: float = Field(default=0.99, gt=0, le=1)
    """Share of the true top `ranking.candidates` that ScaNN must find, measured at export."""
    max_batch: int = Field(default=32, ge=1)
    """Largest batch of requests that a server forms, and that is warmed up."""
    keep: int = Field(default=3, ge=1)
    """Versions that stay in the bundle, the newest ones."""
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest difference between the exported and the Python models, relative above 1."""
    parity_users: int = Field(default=64, ge=1)
    """Users whose answers are compared before the bundle is published."""
