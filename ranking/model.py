"""The ranker: query, candidate and cross features, DCN-v2, a shared body, one head per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.backend import tf, tfrs
from features.encoders import FeatureSpec
from features.entities import EncodedTable
from features.layers import EntityTable, FeatureEmbedding, static_length
from features.neighbours import Neighbours
from features.statistics import Statistics
from interactions.config import TaskConfig
from ranking import cross
from ranking.config import RankingConfig
from training.dropout import dropout, hide_ids

RETRIEVAL = "retrieval"
"""Name of the task that every ranker has: which candidate was chosen."""
_RECENT = 20
"""Latest items of a history whose neighbours are looked for among the candidates."""


@dataclass(frozen=True)
class RankerInputs:
    """The encoded tables that a ranker gathers from, and the tasks it learns."""

    users: EncodedTable
    items: EncodedTable
    context: tuple[FeatureSpec, ...]
    item_id: str
    user_id: str
    tasks: Mapping[str, TaskConfig]
    """By name, those with a weight above 0; the retrieval task is among them."""
    label_mean: Mapping[str, float]
    label_std: Mapping[str, float]


@dataclass(frozen=True)
class Request:
    """Queries and the candidates of each."""

    users: tf.Tensor
    """[B] int32 user rows, -1 is unknown."""
    history: tf.Tensor
    """[B, H] int32 item rows, oldest first, padded at the end with -1."""
    context: Mapping[str, tf.Tensor]
    """By feature, [B] or [B, width], encoded."""
    candidates: tf.Tensor
    """[B, C] int32 item rows, -1 where there are fewer."""
    retrieval_score: tf.Tensor
    """[B, C] float32, standardised."""


class Ranker(tf.Module):
    """Scores candidates for every task; the user side is computed once per query."""

    def __init__(self, inputs: RankerInputs, config: RankingConfig, past: Past) -> None:
        super().__init__(name="ranker")
        self.config, self.tasks = config, dict(inputs.tasks)
        self.inputs = inputs
        self._items = EntityTable(inputs.items, name="ranker_items")
        self._users = EntityTable(inputs.users, name="ranker_users")
        self.past = past
        content = [spec for spec in inputs.items.specs if spec.name != inputs.item_id]
        self._content_specs = tuple(content)
        about = [spec for spec in inputs.users.specs if spec.name != inputs.user_id]
        ids = next(spec for spec in inputs.items.specs if spec.name == inputs.item_id)
        self._id = tf.keras.layers.Embedding(ids.size, config.embedding_dim, name="item_id")
        self._content = _embedding(content, config, "content")
        self._item_vector = tf.keras.layers.Dense(config.embedding_dim, name="item_vector")
        self._about = _embedding(about, config, "about")
        self._context = _embedding(inputs.context, config, "context")
        self._crosses: list[Any] = [
            tfrs.layers.dcn.Cross(projection_dim=config.cross_rank, name=f"cross_{index}")
            for index in range(config.cross_layers)
        ]
        self._body = [
            tf.keras.layers.Dense(width, activation="relu", name=f"body_{index}")
            for index, width in enumerate(config.hidden_dims)
        ]
        self._wide = {
            task: tf.keras.layers.Dense(
                1, use_bias=False, kernel_initializer="zeros", name=f"wide_{task}"
            )
            for task in self.tasks
        }
        self._heads = {
            task: tf.keras.layers.Dense(1, kernel_initializer="zeros", name=f"head_{task}")
            for task in self.tasks
        }
        self._build()

    def __call__(self, request: Request, seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Predict, by task, [B, C] float32.

        For the retrieval task and binary ones the logit, for a regression the label itself.
        `seed` [2] int32 turns dropout on.
        """
        vectors, past_vectors = self._vectors(request, seed)
        mask = tf.cast(request.history >= 0, tf.float32)
        query, mean = self._query(request, past_vectors, mask, seed)
        numbers = self._numbers(request, mask, vectors, mean)
        width = tf.shape(request.candidates)[1]
        tiled = tf.tile(query[:, tf.newaxis, :], tf.stack([1, width, 1]))
        joined = tf.concat([tiled, vectors, mean[:, tf.newaxis, :] * vectors, numbers], axis=-1)
        crossed = joined
        for layer in self._crosses:
            crossed = layer(joined, crossed)
        hidden = crossed
        for index, layer in enumerate(self._body):
            hidden = dropout(layer(hidden), self.config.dropout, seed, salt=20 + index)
        return {task: self._predict(task, hidden, numbers) for task in self.tasks}

    def _vectors(self, request: Request, seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Vectors of the candidates [B, C, D] and of the history [B, H, D].

        Each distinct item is computed once: a batch's lists and histories share most of theirs.
        """
        both = [tf.reshape(rows, [-1]) for rows in (request.candidates, request.history)]
        distinct, place = tf.unique(tf.concat(both, axis=0))
        features = self._items(distinct)
        rate, unknown = self.config.id_dropout, self._id.input_dim - 1
        ids = hide_ids(features[self.inputs.item_id], rate, seed, unknown=unknown, salt=11)
        parts = [self._id(ids)]
        if self._content is not None:
            parts.append(self._content(features))
        vectors = self._item_vector(tf.concat(parts, axis=-1))
        split = tf.size(request.candidates)
        return (
            tf.gather(vectors, tf.reshape(place[:split], tf.shape(request.candidates))),
            tf.gather(vectors, tf.reshape(place[split:], tf.shape(request.history))),
        )

    def _query(
        self, request: Request, vectors: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Everything known without the candidates: the query's vector, and its history's mean."""
        count = tf.reduce_sum(mask, axis=1, keepdims=True)
        mean = tf.reduce_sum(vectors * mask[:, :, tf.newaxis], axis=1) / tf.maximum(count, 1.0)
        parts = [mean, self.past.user(request.users), tf.math.log1p(count)]
        if self._about is not None:
            parts.append(self._about(self._users(request.users)))
        if self._context is not None:
            context = self._context(request.context)
            parts.append(dropout(context, self.config.dropout, seed, salt=13))
        return tf.concat(parts, axis=-1), mean

    def _numbers(
        self,
        request: Request,
        mask: tf.Tensor,
        vectors: tf.Tensor,
        mean: tf.Tensor,
    ) -> tf.Tensor:
        """What can be said of each candidate in plain numbers, [B, C, numbers]."""
        compared = {spec.name for spec in self._content_specs if spec.kind != "text"}
        candidate = self._items(request.candidates, compared)
        history = self._items(request.history, compared)
        together = cross.chosen_together(
            request.candidates, *self.past.neighbours(_latest(request.history, mask, _RECENT))
        )
        last = cross.chosen_together(
            request.candidates, *self.past.neighbours(_latest(request.history, mask, 1))
        )
        single = [
            request.retrieval_score,
            cross.chosen_before(request.candidates, request.history),
            *together,
            *last,
            *cross.affinities(self._content_specs, candidate, history, mask),
            tf.einsum("bd,bcd->bc", mean, vectors),
        ]
        user = self.past.user(request.users)[:, tf.newaxis, :]
        width = tf.shape(request.candidates)[1]
        return tf.concat(
            [
                tf.stack(single, axis=-1),
                self.past.item(request.candidates),
                tf.tile(user, tf.stack([1, width, 1])),
            ],
            axis=-1,
        )

    def _predict(self, task: str, hidden: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        output = tf.squeeze(self._heads[task](hidden) + self._wide[task](numbers), axis=-1)
        if self.tasks[task].kind == "regression":
            return self.inputs.label_mean[task] + self.inputs.label_std[task] * output
        if self.tasks[task].kind == "binary":
            rate = np.clip(self.inputs.label_mean[task], 1e-4, 1 - 1e-4)
            return output + np.float32(np.log(rate / (1 - rate)))
        return output

    def _build(self) -> None:
        """Create every weight, so that a checkpoint finds them."""
        context = {
            spec.name: tf.zeros(
                [1, spec.width] if spec.width else [1], tf.int32 if spec.size else tf.float32
            )
            for spec in self.inputs.context
        }
        nothing = tf.fill([1, self.config.history], -1)
        self(Request(tf.constant([-1]), nothing, context, nothing[:, :1], tf.zeros([1, 1])))

    def start_from_retrieval(self, scale: float) -> None:
        """Make a new ranker's retrieval logit `scale` times the retrieval score, to learn from."""
        kernel = self._wide[RETRIEVAL].kernel
        # the retrieval score is the first of the numbers
        kernel.assign(scale * tf.one_hot([0], kernel.shape[0], axis=0))


class Past(tf.Module):
    """What the rows before a cut say: statistics and neighbours, gathered by row.

    Kept apart from the ranker's weights, because a ranker trained on what was known at one cut is
    served with what is known at a later one.
    """

    def __init__(self, statistics: Statistics, neighbours: Neighbours) -> None:
        super().__init__(name="past")
        self._user = tf.Variable(
            tf.constant(statistics.user), trainable=False, name="user_statistics"
        )
        self._item = tf.Variable(
            tf.constant(statistics.item), trainable=False, name="item_statistics"
        )
        self._near = tf.Variable(tf.constant(neighbours.item), trainable=False, name="neighbours")
        self._weight = tf.Variable(
            tf.constant(neighbours.weight), trainable=False, name="similarities"
        )

    def user(self, rows: tf.Tensor) -> tf.Tensor:
        """Statistics of user rows [...] int32 (-1 is unknown), [..., names]."""
        return tf.gather(self._user, _known(rows, self._user))

    def item(self, rows: tf.Tensor) -> tf.Tensor:
        """Statistics of item rows [...] int32, [..., names]."""
        return tf.gather(self._item, _known(rows, self._item))

    def neighbours(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Neighbours of item rows [B, H] and their similarity, [B, H, M] each."""
        known = _known(rows, self._near)
        return tf.gather(self._near, known), tf.gather(self._weight, known)

    def copy(self) -> Past:
        """Return another `Past` with the same content."""
        user, item, near, weight = (
            v.numpy() for v in (self._user, self._item, self._near, self._weight)
        )
        return Past(Statistics(user, item, {}, {}), Neighbours(near, weight))

    def replace(self, other: Past) -> None:
        """Take over what is known at another cut, of the same users and items."""
        for mine, theirs in zip(self.variables, other.variables, strict=True):
            mine.assign(theirs)


def _known(rows: tf.Tensor, table: tf.Variable) -> tf.Tensor:
    return tf.where(rows < 0, static_length(table, 0) - 1, rows)


def _latest(history: tf.Tensor, mask: tf.Tensor, length: int) -> tf.Tensor:
    """The last `length` items of each history [B, H], latest first, [B, length]; -1 is none."""
    count = tf.cast(tf.reduce_sum(mask, axis=1, keepdims=True), tf.int32)
    place = count - 1 - tf.range(min(length, static_length(history, 1)))
    return tf.where(place >= 0, tf.gather(history, tf.maximum(place, 0), batch_dims=1), -1)


def _embedding(
    specs: list[FeatureSpec] | tuple[FeatureSpec, ...], config: RankingConfig, name: str
) -> FeatureEmbedding | None:
    return FeatureEmbedding(specs, dim=config.feature_dim, name=name) if specs else None
