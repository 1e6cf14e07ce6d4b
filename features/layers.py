"""Layers that turn entity rows into vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from features.backend import tf
from features.encoders import FeatureSpec
from features.entities import EncodedTable


def static_length(values: tf.Tensor | tf.Variable, axis: int) -> int:
    """Return the length of an axis that is known before the graph runs."""
    length = values.shape[axis]
    assert length is not None, f"axis {axis} of {values} has no fixed length"
    return length


class EntityTable(tf.Module):
    """The encoded features of all rows of an entity, gathered by row.

    Kept as variables, not constants, so that a SavedModel of a large catalogue stays loadable.
    """

    def __init__(self, table: EncodedTable, *, name: str) -> None:
        super().__init__(name=name)
        self.specs = table.specs
        with tf.device("CPU"):
            self._columns = {
                key: tf.Variable(tf.constant(value), trainable=False, name=f"{name}_{key}")
                for key, value in table.arrays.items()
            }
        self.rows = len(next(iter(table.arrays.values()))) - 1 if table.arrays else 0

    def __call__(
        self, rows: tf.Tensor, names: Collection[str] | None = None
    ) -> dict[str, tf.Tensor]:
        """Gather features of `rows` (int32, any shape; -1 is the unknown row), all or by name."""
        known = self.known(rows)
        return {
            key: tf.gather(column, known)
            for key, column in self._columns.items()
            if names is None or key in names
        }

    def known(self, rows: tf.Tensor) -> tf.Tensor:
        """Name the unknown row, -1 in `rows` (int32, any shape), by its place, the last."""
        return tf.where(rows < 0, self.rows, rows)


class FeatureEmbedding(tf.keras.layers.Layer):
    """Encoded features to one vector: [...] ids or [..., width] numbers -> [..., output_dim].

    Ids are embedded, several ids averaged over those present, given vectors projected, and
    numbers passed on as they are; all are concatenated in the order of `specs`.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        *,
        dim: int,
        text_dim: int | None = None,
        name: str | None = None,
    ) -> None:
        """Embed ids in `dim` entries, those of texts in `text_dim` (None: as many)."""
        super().__init__(name=name)
        self._specs = tuple(specs)
        self._dim, self._text_dim = dim, text_dim or dim
        self._layers_by_name: dict[str, tf.keras.layers.Layer] = {}
        for spec in self._specs:
            if spec.size:
                self._layers_by_name[spec.name] = tf.keras.layers.Embedding(
                    spec.size,
                    self._length(spec),
                    embeddings_initializer=tf.keras.initializers.TruncatedNormal(stddev=0.05),
                    name=f"embed_{spec.name}",
                )
            elif spec.kind == "vector":
                self._layers_by_name[spec.name] = tf.keras.layers.Dense(
                    dim, use_bias=False, name=f"project_{spec.name}"
                )

    @property
    def output_dim(self) -> int:
        """Length of the concatenated vector."""
        return sum(self._length(spec) for spec in self._specs)

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embed and concatenate `features`, by name."""
        return tf.concat([self._embed(spec, features[spec.name]) for spec in self._specs], axis=-1)

    def tables(self) -> dict[str, tf.Variable]:
        """Return the embeddings of ids, once built, by feature: [size, length] float32 each."""
        return {
            spec.name: self._layers_by_name[spec.name].embeddings
            for spec in self._specs
            if spec.size
        }

    def start_from(self, feature: str, table: np.ndarray) -> None:
        """Let the embedding of `feature`, once built, start from `table` [size, length] float32."""
        self._layers_by_name[feature].set_weights([table])

    def _length(self, spec: FeatureSpec) -> int:
        if spec.kind == "numeric":
            return spec.width
        return self._text_dim if spec.kind == "text" else self._dim

    def _embed(self, spec: FeatureSpec, value: tf.Tensor) -> tf.Tensor:
        if spec.kind == "numeric":
            return value
        vectors = self._layers_by_name[spec.name](value)
        if not spec.size or not spec.width:
            return vectors
        # [..., width, dim] -> [..., dim], the mean over the ids that are there
        there = tf.expand_dims(tf.cast(value > 0, vectors.dtype), -1)
        count = tf.maximum(tf.reduce_sum(there, axis=-2), 1.0)
        return tf.reduce_sum(vectors * there, axis=-2) / count
