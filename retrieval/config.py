"""How the retriever is built and trained."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config
from training.config import ScheduleConfig


class RetrievalConfig(Config):
    """Sizes of the two towers, the negatives and the schedule."""

    embedding_dim: int = Field(default=64, ge=2)
    """Length of a query's and a candidate's vector."""
    feature_dim: int = Field(default=16, ge=1)
    """Length of the embedding of one feature."""
    hidden_dim: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of ids hidden in training, so that content must carry what an unknown id cannot."""
    use_user_id: bool = False
    """An embedding per user beside the history; on small data it only learns users by heart."""
    history: int = Field(default=50, ge=1)
    """Most events of a user's past that a query sees, the latest ones."""
    temperature: float = Field(default=0.2, gt=0)
    """Divides the cosine of query and candidate at first; learnt from there."""
    batch_events: int = Field(default=2048, ge=1)
    """Events in a batch, about: whole windows of users' histories, each event a query."""
    negatives: int = Field(default=1024, ge=0)
    """Items drawn uniformly as negatives for a batch, beside the batch's own items."""
    schedule: ScheduleConfig = ScheduleConfig(learning_rate=3e-3, max_epochs=60, patience=5)
