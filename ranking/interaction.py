"""How features interact, below experts and towers: DCN-v2, dot products of fields, or not."""

from __future__ import annotations

from typing import Protocol

from features.backend import tf
from features.layers import static_length
from ranking.config import RankingConfig
from ranking.sides import RowsDense, Sides, SidesDense

_START = "truncated_normal"
"""Of the cross network's matrices, as in TFRS."""


class Interaction(Protocol):
    """Features in, features that say something of several at once out."""

    def __call__(self, sides: Sides) -> Sides:
        """Combine features; both sides stay [B, ...] and [B, C, ...] float32."""
        ...

    @property
    def last_kernels(self) -> list[tf.Variable]:
        """The weights of the last layer, none where there is no layer."""
        ...


def interaction_of(config: RankingConfig) -> Interaction:
    """Make the interaction that `config` asks for."""
    if config.interaction == "dcn":
        return CrossNetwork(config.cross_layers, rank=config.cross_rank)
    if config.interaction == "dot":
        return DotInteraction(fields=config.dot_fields, dim=config.embedding_dim)
    return NoInteraction()


class NoInteraction(tf.Module):
    """Leaves the features as they are; their interaction is left to the layers above."""

    def __call__(self, sides: Sides) -> Sides:
        """Return `sides`."""
        return sides

    @property
    def last_kernels(self) -> list[tf.Variable]:
        """None."""
        return []


class CrossNetwork(tf.Module):
    """DCN-v2 with low-rank matrices (Wang et al. 2021, equation 4).

    x_{l+1} = x_0 * (U (V x_l) + b) + x_l, as in `tfrs.layers.dcn.Cross`; here the query's part of
    the first V x_0 is computed once per query and not once per candidate.
    """

    def __init__(self, layers: int, *, rank: int) -> None:
        super().__init__(name="cross")
        self._in = [
            SidesDense(rank, bias=False, initializer=_START, name=f"cross_in_{place}")
            for place in range(layers)
        ]
        self._out: list[tf.keras.layers.Layer] = []
        self._layers = layers

    def __call__(self, sides: Sides) -> Sides:
        """Cross all features, [B, C, U + K], no query side left."""
        if not self._layers:
            return sides
        start = sides.joined()
        if not self._out:
            self._out = [
                RowsDense(static_length(start, 2), kernel_initializer=_START, name=f"cross_out_{n}")
                for n in range(self._layers)
            ]
        crossed, current = start, sides
        for inner, outer in zip(self._in, self._out, strict=True):
            crossed = start * outer(inner(current)) + crossed
            current = Sides(None, crossed)
        return current

    @property
    def last_kernels(self) -> list[tf.Variable]:
        """The last U."""
        return [outer.kernel for outer in self._out[-1:]]


class DotInteraction(tf.Module):
    """Dot products of learnt fields, as in DLRM (Naumov et al. 2019, section 2.1.2).

    Each side is projected to `fields` vectors of length `dim`; the products of the query's fields
    with each other are computed once per query, and added to the features that went in.
    """

    def __init__(self, *, fields: int, dim: int) -> None:
        super().__init__(name="dot")
        self._fields, self._dim = fields, dim
        self._query = tf.keras.layers.Dense(fields * dim, name="dot_query")
        self._candidate = RowsDense(fields * dim, name="dot_candidate")

    def __call__(self, sides: Sides) -> Sides:
        """Add products to each side."""
        assert sides.query is not None, "a query has features of its own"
        fields, dim = self._fields, self._dim
        batch, width = tf.shape(sides.candidate)[0], tf.shape(sides.candidate)[1]
        scale = dim**-0.5
        # [B, fields * D] -> [B, fields, D]
        query = tf.reshape(self._query(sides.query), [batch, fields, dim])
        # [B, C, fields * D] -> [B, C, fields, D]
        candidate = tf.reshape(
            self._candidate(sides.candidate), tf.stack([batch, width, fields, dim])
        )
        both = tf.matmul(
            tf.reshape(candidate, tf.stack([batch, width * fields, dim])), query, transpose_b=True
        )
        # [B, C * fields, fields] -> [B, C, fields * fields]
        both = tf.reshape(both, tf.stack([batch, width, fields * fields])) * scale
        return Sides(
            tf.concat([sides.query, _products(query) * scale], axis=-1),
            tf.concat([sides.candidate, both, _products(candidate) * scale], axis=-1),
        )

    @property
    def last_kernels(self) -> list[tf.Variable]:
        """What makes the fields of each side."""
        return [self._query.kernel, self._candidate.kernel]


def _products(vectors: tf.Tensor) -> tf.Tensor:
    """Products of each of [..., n, D] vectors with those before it, [..., n * (n - 1) / 2]."""
    count = static_length(vectors, -2)
    pairs = [(one, other) for one in range(count) for other in range(one)]
    products = tf.matmul(vectors, vectors, transpose_b=True)
    # [..., n, n] -> [..., n * n]
    shape = tf.concat([tf.shape(vectors)[:-2], [count * count]], axis=0)
    return tf.gather(
        tf.reshape(products, shape), [one * count + other for one, other in pairs], axis=-1
    )
