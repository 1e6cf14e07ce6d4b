"""How the retriever is built and trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from interactions.config import Config
from retrieval.negatives_config import NegativesConfig
from training.config import ScheduleConfig

AskedIndex = Literal["auto", "exact", "scann"]
"""What may be asked for as the index of an export."""


class RetrievalSchedule(ScheduleConfig):
    """The schedule, with what suits a retriever where nothing is said."""

    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    average: float = Field(default=0.99, ge=0, lt=1)
    max_epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=5, ge=1)


class RetrievalConfig(Config):
    """Sizes of the two towers, the loss and the schedule."""

    embedding_dim: int = Field(default=64, ge=2)
    """Length of a query's and a candidate's vector."""
    feature_dim: int = Field(default=16, ge=1)
    """Length of the embedding of one feature."""
    hidden_dim: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Of what features say."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of ids hidden in training where there is content, which must carry what an unknown id
    cannot."""
    use_user_id: bool = False
    """An embedding per user beside the history; on small data it only learns users by heart."""
    encoder: Literal["mean", "gru", "transformer"] = "transformer"
    """What turns a user's history into a vector."""
    history: int = Field(default=200, ge=1)
    """Most events of a user's past that a query sees, the latest ones."""
    history_dropout: float = Field(default=0.3, ge=0, lt=1)
    blocks: int = Field(default=2, ge=1)
    """Of the transformer."""
    heads: int = Field(default=2, ge=1)
    """Of each of its blocks; they share `embedding_dim`."""
    tie_history: bool = True
    """Whether an item is the same vector in a history as among the candidates."""
    temperature: float = Field(default=0.2, gt=0)
    """Divides the cosine of query and candidate at first."""
    learn_temperature: bool = True
    negatives: NegativesConfig = NegativesConfig()
    """Where the softmax takes its negatives; a small catalogue is taken whole."""
    correct_positive: bool = False
    """Correct the chosen item's own logit for how often it is drawn too, as classical logQ does."""
    batch_events: int = Field(default=2048, ge=1)
    """Events in a batch, about: whole windows of users' histories, each event a query."""
    max_minutes: float = Field(default=40.0, gt=0)
    """Budget of the whole stage, which trains two retrievers: the first, which makes the ranker's
    candidates, may take a third of it, the second what is left."""
    schedule: RetrievalSchedule = RetrievalSchedule()

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.encoder == "transformer" and self.embedding_dim % self.heads:
            raise ValueError(
                f"embedding_dim {self.embedding_dim} cannot be shared by heads {self.heads}; "
                "make the first a multiple of the second"
            )
        return self
