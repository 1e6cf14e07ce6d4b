"""The two towers: a query's and a candidate's vector, whose inner product is the score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from features.backend import tf
from features.encoders import FeatureSpec
from features.layers import EntityTable, FeatureEmbedding
from features.semantics import latent_semantics
from retrieval.config import RetrievalConfig
from retrieval.moment import Moment
from training.dropout import dropout, hide_ids


class CandidateTower(tf.keras.layers.Layer):
    """An item's id and content to a unit vector: rows [n] -> [n, D].

    The vector is the sum of what the content says, a unit vector, and of what the id adds to it.
    Where there is content, that begins with next to nothing: content alone places an item whose id
    is unknown, one that was chosen a few times lies near to its like, and only with many
    interactions does it become an item of its own. How often an item is chosen whoever asks is not
    learnt here: the trends know it for every moment.
    """

    def __init__(
        self, items: EntityTable, *, id_name: str, config: RetrievalConfig, name: str
    ) -> None:
        super().__init__(name=name)
        self._items, self._id_name, self._config = items, id_name, config
        ids = next(spec for spec in items.specs if spec.name == id_name)
        content = [spec for spec in items.specs if spec.name != id_name]
        self._id = tf.keras.layers.Embedding(
            ids.size,
            config.embedding_dim,
            embeddings_initializer=_normal(0.01 if content else 0.1),
            name="id",
        )
        self._content = None
        if content:
            self._content = FeatureEmbedding(
                content, dim=config.feature_dim, text_dim=config.embedding_dim
            )
        # straight through, so that likeness of content is likeness of items from the start
        self._line = tf.keras.layers.Dense(config.embedding_dim, use_bias=False)
        self._hidden = tf.keras.layers.Dense(config.hidden_dim, activation="relu")
        self._out = tf.keras.layers.Dense(config.embedding_dim, use_bias=False)

    def call(self, rows: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Embed items by row ([n] int32, -1 is unknown); `seed` [2] int32 turns dropout on."""
        features = self._items(rows)
        # without content a hidden id would leave nothing to tell an item by
        rate = self._config.id_dropout if self._content is not None else 0.0
        unknown = self._id.input_dim - 1
        ids = hide_ids(features[self._id_name], rate, seed, unknown=unknown, salt=1)
        vector = self._id(ids)
        if self._content is not None:
            content = self._content(features)
            hidden = dropout(self._hidden(content), self._config.dropout, seed, salt=2)
            vector += tf.math.l2_normalize(self._line(content) + self._out(hidden), axis=-1)
        return tf.math.l2_normalize(vector, axis=-1)

    def tables(self) -> dict[str, tf.Variable]:
        """Return the embeddings of ids, once built, by feature."""
        content = {} if self._content is None else self._content.tables()
        return {self._id_name: self._id.embeddings, **content}

    def read_texts(self, rows: np.ndarray) -> None:
        """Let the texts of items `rows` [n] int32 say what words mean; for a start of training."""
        if self._content is None:
            return
        for spec in self._items.specs:
            if spec.kind == "text":
                ids = self._items(tf.constant(rows), names=[spec.name])[spec.name].numpy()
                table = latent_semantics(ids, size=spec.size, dim=self._config.embedding_dim)
                self._content.start_from(spec.name, table)


class Asked(NamedTuple):
    """What a query says beside its history; all leading dimensions are those of the queries."""

    about: Mapping[str, tf.Tensor]
    """What is known of the users, ids included, by feature, [...] or [..., width], encoded."""
    context: Mapping[str, tf.Tensor]
    """By feature, [...] or [..., width], encoded."""
    time: tf.Tensor
    """[...] int64 microseconds since 1970; not read where the data has no times."""
    previous: tf.Tensor
    """[...] int64, when the last event of the history happened."""
    known: tf.Tensor
    """[...] bool, whether there is one."""


class QueryTower(tf.keras.layers.Layer):
    """History, user id, user features, context and time to a query vector [..., D].

    Works on any leading dimensions, so that one pass serves whole users' sequences in training
    and single requests in serving.
    """

    def __init__(
        self,
        users: Sequence[FeatureSpec],
        context: Sequence[FeatureSpec],
        *,
        id_name: str,
        has_times: bool,
        config: RetrievalConfig,
    ) -> None:
        super().__init__(name="query_tower")
        self._id_name, self._config = id_name, config
        ids = next(spec for spec in users if spec.name == id_name)
        about = [spec for spec in users if spec.name != id_name]
        dim = config.feature_dim
        self._id = None
        if config.use_user_id:
            self._id = tf.keras.layers.Embedding(
                ids.size, config.embedding_dim, embeddings_initializer="zeros", name="id"
            )
        self._about = FeatureEmbedding(about, dim=dim, name="about") if about else None
        self._context = FeatureEmbedding(context, dim=dim, name="context") if context else None
        self._moment: Any = Moment(dim) if has_times else None
        # at first a query is what its history is, so that items near to it are found from the start
        self._mix = tf.keras.layers.Dense(
            config.embedding_dim, use_bias=False, kernel_initializer="identity"
        )
        self._hidden = tf.keras.layers.Dense(config.hidden_dim, activation="relu")
        self._out = tf.keras.layers.Dense(config.embedding_dim, kernel_initializer="zeros")
        # learnt: how much taste weighs against popularity differs between data sets
        self._log_scale = tf.Variable(
            tf.constant(-math.log(config.temperature)),
            trainable=config.learn_temperature,
            name="log_scale",
        )

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]  (its stub knows one input)
        self, history: tf.Tensor, asked: Asked, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Make query vectors, scaled so that their product with a candidate is a logit.

        Args:
            history: [..., D] float, encoded history.
            asked: the rest of the query.
            seed: [2] int32 turns dropout on.
        """
        vector = self._mix(history)
        others = self._others(asked, seed)
        if others:
            hidden = self._hidden(tf.concat([history, *others], axis=-1))
            vector += self._out(dropout(hidden, self._config.dropout, seed, salt=4))
        if self._id is not None:
            rate, unknown = self._config.id_dropout, self._id.input_dim - 1
            ids = hide_ids(asked.about[self._id_name], rate, seed, unknown=unknown, salt=5)
            vector += self._id(ids)
        return tf.math.l2_normalize(vector, axis=-1) * tf.exp(self._log_scale)

    def user_tables(self) -> dict[str, tf.Variable]:
        """Return the embeddings of users' ids and features, once built, by feature."""
        ids = {} if self._id is None else {self._id_name: self._id.embeddings}
        return ids if self._about is None else {**ids, **self._about.tables()}

    def context_tables(self) -> dict[str, tf.Variable]:
        """Return the embeddings of the context's features, once built, by feature."""
        return {} if self._context is None else self._context.tables()

    def sharpen(self, factor: float) -> None:
        """Scale the query vectors by `factor`, from now on."""
        self._log_scale.assign_add(math.log(factor))

    def _others(self, asked: Asked, seed: tf.Tensor | None) -> list[tf.Tensor]:
        """Embed what is known beside the history."""
        others = []
        if self._about is not None:
            others.append(self._about(asked.about))
        if self._context is not None:
            others.append(dropout(self._context(asked.context), self._config.dropout, seed, salt=3))
        if self._moment is not None:
            others.append(self._moment(asked.time, asked.previous, asked.known))
        return others


def _normal(size: float) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.TruncatedNormal(stddev=size)
