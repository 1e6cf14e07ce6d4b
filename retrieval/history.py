"""Encoders of a user's history: item embeddings in, a vector for every moment of it out."""

from __future__ import annotations

from typing import Protocol

from features.backend import tf
from features.layers import static_length
from retrieval.config import RetrievalConfig
from retrieval.transformer import TransformerHistory
from training.dropout import dropout


class HistoryEncoder(Protocol):
    """What every history encoder is."""

    def states(
        self, embeddings: tf.Tensor, times: tf.Tensor | None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encode the first n events of a sequence, for every n at once.

        State n depends on the first n events alone, so that one pass gives a query for each event
        of a sequence, and events of one moment need not explain each other.

        Args:
            embeddings: [W, L, D] float, L at least 1, oldest first; padding stands at the end.
            times: [W, L] int64 microseconds; None where only the order is known.
            seed: [2] int32 turns dropout on.

        Returns:
            [W, L + 1, D] float; state 0 knows nothing.
        """
        ...


class MeanHistory(tf.keras.layers.Layer):
    """The mean of what was chosen before; zeros where nothing was."""

    def states(
        self, embeddings: tf.Tensor, times: tf.Tensor | None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encode as `HistoryEncoder` says; neither times nor dropout change a mean."""
        del times, seed
        total = tf.pad(tf.cumsum(embeddings, axis=1), [[0, 0], [1, 0], [0, 0]])
        count = tf.range(tf.shape(total)[1])
        return total / tf.cast(tf.maximum(count, 1), total.dtype)[tf.newaxis, :, tf.newaxis]


class RecurrentHistory(tf.keras.layers.Layer):
    """A gated recurrent unit over the sequence (GRU4Rec: Hidasi et al. 2016)."""

    def __init__(self, dim: int, *, rate: float) -> None:
        super().__init__(name="history")
        self._rate = rate
        self._cell = tf.keras.layers.GRU(dim, return_sequences=True, name="gru")

    def states(
        self, embeddings: tf.Tensor, times: tf.Tensor | None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encode as `HistoryEncoder` says; of time it knows the order."""
        del times
        # unit vectors are small numbers for the gates
        scale = float(static_length(embeddings, -1)) ** 0.5
        states = self._cell(dropout(embeddings * scale, self._rate, seed, salt=20))
        return tf.pad(states, [[0, 0], [1, 0], [0, 0]])


def history_encoder(config: RetrievalConfig) -> HistoryEncoder:
    """Make the encoder that `config` asks for."""
    if config.encoder == "mean":
        return MeanHistory(name="history")
    if config.encoder == "gru":
        return RecurrentHistory(config.embedding_dim, rate=config.history_dropout)
    return TransformerHistory(
        dim=config.embedding_dim,
        blocks=config.blocks,
        heads=config.heads,
        length=config.history,
        rate=config.history_dropout,
    )
