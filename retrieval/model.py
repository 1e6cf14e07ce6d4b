"""The retriever: both towers, their training step and their embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.backend import tf
from features.encoders import FeatureSpec
from features.entities import EncodedTable
from features.layers import EntityTable
from retrieval.config import RetrievalConfig
from retrieval.history import history_encoder
from retrieval.loss import softmax_loss
from retrieval.repeats import RepeatBonus
from retrieval.softmax import Arrival, Shift
from retrieval.towers import Asked, CandidateTower, QueryTower
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
    has_times: bool
    """Whether the data has times, or only an order."""


class Retriever(tf.Module):
    """Two towers over tables of encoded users and items."""

    def __init__(self, inputs: RetrieverInputs, config: RetrievalConfig) -> None:
        super().__init__(name="retriever")
        self.config = config
        self.items = EntityTable(inputs.items, name="items")
        self.users = EntityTable(inputs.users, name="users")
        self.context = inputs.context
        self._has_times = inputs.has_times
        self.candidate_tower = self._item_tower(inputs.item_id, "candidate_tower")
        self.history_items = self.candidate_tower
        if not config.tie_history:
            self.history_items = self._item_tower(inputs.item_id, "history_items")
        self.history: Any = history_encoder(config)
        self.query_tower: Any = QueryTower(
            inputs.users.specs,
            inputs.context,
            id_name=inputs.user_id,
            has_times=inputs.has_times,
            config=config,
        )
        self.trends = inputs.trends
        self._trend = tf.Variable(tf.constant(inputs.trends.value), trainable=False, name="trends")
        self._trend_weight = tf.Variable(
            tf.constant([1.0 / len(HALF_LIVES)] * len(HALF_LIVES)), name="trend_weight"
        )
        self.repeat_bonus = RepeatBonus()
        """As `reward_repeats` last said."""
        self._build()

    def _item_tower(self, id_name: str, name: str) -> Any:
        # Any: the stubs of Keras let a layer take one argument
        return CandidateTower(self.items, id_name=id_name, config=self.config, name=name)

    def _build(self) -> None:
        """Create every weight, so that a checkpoint finds them."""
        nobody, never = tf.constant([-1]), tf.zeros([1], tf.int64)
        blank = {
            spec.name: tf.zeros(
                [1, spec.width] if spec.width else [1], tf.int32 if spec.size else tf.float32
            )
            for spec in self.context
        }
        self.candidate_tower(nobody)
        self.embed_queries(
            self.embed_history_items(nobody)[:, tf.newaxis],
            never[:, tf.newaxis],
            tf.zeros([1], tf.int32),
            nobody,
            blank,
            never,
        )

    def read_texts(self, rows: np.ndarray) -> None:
        """Begin with what the texts of items `rows` ([n] int32) tell, where items have texts."""
        self.candidate_tower.read_texts(rows)
        if self.history_items is not self.candidate_tower:
            self.history_items.read_texts(rows)

    def tables(self) -> list[tuple[str, str, tf.Variable]]:
        """Return every embedding of ids with the entity and the feature it is of."""
        towers = [self.candidate_tower]
        if self.history_items is not self.candidate_tower:
            towers.append(self.history_items)
        parts = [
            *(("items", tower.tables()) for tower in towers),
            ("users", self.query_tower.user_tables()),
            ("context", self.query_tower.context_tables()),
        ]
        return [
            (entity, feature, table) for entity, part in parts for feature, table in part.items()
        ]

    def sharpen(self, factor: float) -> None:
        """Let taste count `factor` times as much against the trends."""
        self.query_tower.sharpen(factor)

    def reward_repeats(self, bonus: RepeatBonus) -> None:
        """Let what a user chose before score more by `bonus`, in searches of this retriever."""
        self.repeat_bonus = bonus

    def embed_items(self, rows: tf.Tensor) -> tf.Tensor:
        """Embed item rows [n] int32, [n, D + 1]; the last entry, a bias, is the latest trend."""
        # of these items alone: to weigh the trends of a catalogue takes a hundred times as long
        latest = tf.gather(self._trend[-1:], tf.maximum(rows, 0), axis=2)
        trend = tf.einsum("sfi,f->si", latest, self._trend_weight)[0]
        bias = tf.where(rows < 0, 0.0, trend)
        return tf.concat([self.candidate_tower(rows), bias[:, tf.newaxis]], axis=1)

    def embed_history_items(self, rows: tf.Tensor) -> tf.Tensor:
        """Embed item rows [n] int32 as a history has them, [n, D]."""
        return self.history_items(rows)

    def trend_bias(self) -> tf.Tensor:
        """What each item's trend adds to its score in each slot, [slots, items] float."""
        return tf.einsum("sfi,f->si", self._trend, self._trend_weight)

    def embed_queries(
        self,
        history: tf.Tensor,
        history_time: tf.Tensor,
        count: tf.Tensor,
        users: tf.Tensor,
        context: Mapping[str, tf.Tensor],
        time: tf.Tensor,
        window: tf.Tensor | None = None,
        about: Mapping[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Embed queries.

        Args:
            history: [W, H, D] float, `embed_history_items` of what was chosen, oldest first.
            history_time: [W, H] int64, when, in microseconds since 1970.
            count: [B] int32, how many events of its history a query knows.
            users: [B] int32, user rows, -1 is unknown.
            context: by feature, [B] or [B, width], encoded.
            time: [B] int64, when the query is asked.
            window: [B] int32, the history of each query; None where each has its own, W = B.
            about: what is known of the users, as `users` encodes it; the table's where left out.

        Returns:
            [B, D + 1] float; its product with an item's embedding is the score, to which searches
            add `repeat_bonus`.
        """
        states = self.history.states(history, history_time if self._has_times else None)
        window = tf.range(tf.shape(count)[0]) if window is None else window
        encoded = tf.gather_nd(states, tf.stack([window, count], axis=1))
        last = tf.maximum(count - 1, 0)
        previous = tf.gather_nd(history_time, tf.stack([window, last], axis=1))
        about = self.users(users) if about is None else about
        asked = Asked(about, context, time, previous, count > 0)
        vector = self.query_tower(encoded, asked)
        return tf.concat([vector, tf.ones_like(vector[:, :1])], axis=1)

    def loss(
        self,
        batch: Mapping[str, tf.Tensor],
        context: Mapping[str, tf.Tensor],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Return the mean softmax loss of a batch of `retrieval.training`."""
        items = self.candidate_tower(batch["items"], seed=seed)
        seen = items
        if self.history_items is not self.candidate_tower:
            seen = self.history_items(batch["items"], seed=seed + tf.constant([0, 7]))
        times = batch["sequence_time"] if self._has_times else None
        states = self.history.states(tf.gather(seen, batch["sequence"]), times, seed)
        # [W, L + 1, D] -> [Q, D], the states before the targets
        history = tf.gather(tf.reshape(states, [-1, states.shape[-1]]), batch["state"])
        about = self.users(batch["user"])
        asked = Asked(about, context, batch["time"], batch["previous"], batch["known"])
        queries = self.query_tower(history, asked, seed=seed)
        rows = tf.gather(batch["items"], batch["candidates"])
        trend = tf.einsum("sfc,f->sc", tf.gather(self._trend, rows, axis=2), self._trend_weight)
        return softmax_loss(
            queries,
            tf.gather(items, batch["candidates"]),
            positive=batch["positive"],
            bias=Shift(trend, batch["slot"] if self._has_times else None),
            correction=Shift(batch["correction"], batch.get("correction_row")),
            positive_correction=(
                batch["positive_correction"] if self.config.correct_positive else None
            ),
            arrival=(Arrival.of(batch["first_seen"], batch["time"]) if self._has_times else None),
            weight=batch.get("weight"),
        )
