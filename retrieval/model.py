"""The retriever: both towers, their training step and their embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.backend import tf
from features.encoders import FeatureSpec
from features.entities import EncodedTable
from features.layers import EntityTable
from retrieval.config import RetrievalConfig
from retrieval.loss import sampled_softmax
from retrieval.towers import CandidateTower, QueryTower
from retrieval.trends import HALF_LIVES, Trends


@dataclass(frozen=True)
class RetrieverInputs:
    """The encoded tables that a retriever gathers from."""

    users: EncodedTable
    items: EncodedTable
    context: tuple[FeatureSpec, ...]
    user_id: str
    """Name of the id among the users' features."""
    item_id: str
    trends: Trends
    """How popular items were when."""


class Retriever(tf.Module):
    """Two towers over tables of encoded users and items."""

    def __init__(self, inputs: RetrieverInputs, config: RetrievalConfig) -> None:
        super().__init__(name="retriever")
        self.config = config
        self.items = EntityTable(inputs.items, name="items")
        self.users = EntityTable(inputs.users, name="users")
        self.context = inputs.context
        # Any: the stubs of Keras let a layer take one argument
        self.candidate_tower: Any = CandidateTower(
            self.items, id_name=inputs.item_id, config=config
        )
        self.query_tower: Any = QueryTower(
            self.users, inputs.context, id_name=inputs.user_id, config=config
        )
        self.trends = inputs.trends
        self._trend = tf.Variable(tf.constant(inputs.trends.value), trainable=False, name="trends")
        self._trend_weight = tf.Variable(
            tf.constant([1.0 / len(HALF_LIVES)] * len(HALF_LIVES)), name="trend_weight"
        )
        self._build()

    def _build(self) -> None:
        """Create every weight, so that a checkpoint finds them."""
        unknown = tf.constant([-1])
        items = self.candidate_tower(unknown)
        blank = {
            spec.name: tf.zeros(
                [1, spec.width] if spec.width else [1], tf.int32 if spec.size else tf.float32
            )
            for spec in self.context
        }
        self.query_tower(tf.zeros_like(items), unknown, blank)

    def embed_items(self, rows: tf.Tensor) -> tf.Tensor:
        """Embed item rows [n] int32, [n, D + 1]; the last entry, a bias, is the latest trend."""
        trend = tf.gather(self.trend_bias()[-1], tf.maximum(rows, 0))
        bias = tf.where(rows < 0, 0.0, trend)
        return tf.concat([self.candidate_tower(rows), bias[:, tf.newaxis]], axis=1)

    def trend_bias(self) -> tf.Tensor:
        """What each item's trend adds to its score in each slot, [slots, items] float."""
        return tf.einsum("sfi,f->si", self._trend, self._trend_weight)

    def embed_queries(
        self,
        history: tf.Tensor,
        count: tf.Tensor,
        users: tf.Tensor,
        context: Mapping[str, tf.Tensor],
    ) -> tf.Tensor:
        """Embed queries.

        Args:
            history: [B, H, D + 1] float, embeddings of the items chosen before, oldest first.
            count: [B] int32, how many of the H are real.
            users: [B] int32, user rows, -1 is unknown.
            context: by feature, [B] or [B, width], encoded.

        Returns:
            [B, D + 1] float; its product with an item's embedding is the score.
        """
        encoded = self.query_tower.history.last(history[:, :, :-1], count)
        vector = self.query_tower(encoded, users, context)
        return tf.concat([vector, tf.ones_like(vector[:, :1])], axis=1)

    def loss(
        self,
        batch: Mapping[str, tf.Tensor],
        context: Mapping[str, tf.Tensor],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Return the mean sampled-softmax loss of a batch of `retrieval.windows.BatchMaker`."""
        items = self.candidate_tower(batch["items"], seed=seed)
        sequence = tf.gather(items, batch["sequence"])
        history = self.query_tower.history.causal(sequence, batch["before"])
        # [W, L, D] -> [Q, D], the positions that are targets
        flat = tf.reshape(history, [-1, history.shape[-1]])
        history = tf.gather(flat, batch["position"])
        queries = self.query_tower(history, batch["user"], context, seed=seed)
        candidates = tf.gather(items, batch["candidates"])
        rows = tf.gather(batch["items"], batch["candidates"])
        trend = tf.einsum("sfc,f->sc", tf.gather(self._trend, rows, axis=2), self._trend_weight)
        logits = tf.matmul(queries, candidates, transpose_b=True)
        losses = sampled_softmax(
            logits + tf.gather(trend, batch["slot"]),
            positive=batch["positive"],
            log_probability=batch["log_probability"],
            allowed=batch["first_seen"][tf.newaxis, :] <= batch["time"][:, tf.newaxis],
        )
        return tf.reduce_mean(losses)
