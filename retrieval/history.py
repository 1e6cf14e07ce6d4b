"""Encoders of a user's history: item embeddings in, one vector per query out."""

from __future__ import annotations

from features.backend import tf


class MeanHistory(tf.keras.layers.Layer):
    """The mean of the embeddings of what was chosen before; zeros where nothing was."""

    def last(self, embeddings: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Encode whole histories.

        Args:
            embeddings: [B, H, D] float, oldest first.
            count: [B] int32, how many of the H are real.

        Returns:
            [B, D] float.
        """
        mask = tf.sequence_mask(count, tf.shape(embeddings)[1], embeddings.dtype)[:, :, tf.newaxis]
        total = tf.reduce_sum(embeddings * mask, axis=1)
        return total / tf.maximum(tf.cast(count, embeddings.dtype), 1.0)[:, tf.newaxis]

    def causal(self, embeddings: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        """Encode the history of every position of a sequence at once.

        Args:
            embeddings: [W, L, D] float, oldest first.
            before: [W, L] int32, how many leading positions are history of this one: those
                strictly earlier in time, so that events of one moment do not explain each other.

        Returns:
            [W, L, D] float.
        """
        running = tf.pad(tf.cumsum(embeddings, axis=1), [[0, 0], [1, 0], [0, 0]])
        total = tf.gather(running, before, batch_dims=1)
        return total / tf.maximum(tf.cast(before, embeddings.dtype), 1.0)[:, :, tf.newaxis]
