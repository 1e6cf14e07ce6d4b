"""The two sides of a pair: what belongs to the query, computed once, and what to each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.backend import tf
from features.layers import static_length
from training.dropout import dropout


@dataclass(frozen=True)
class Sides:
    """Features of queries and of the candidates of each."""

    query: tf.Tensor | None
    """[B, U] float32; None where everything depends on the candidate."""
    candidate: tf.Tensor
    """[B, C, K] float32."""

    def joined(self) -> tf.Tensor:
        """Repeat the query for each of its candidates, [B, C, U + K]."""
        if self.query is None:
            return self.candidate
        width = tf.shape(self.candidate)[1]
        repeated = tf.repeat(self.query[:, tf.newaxis, :], width, axis=1)
        return tf.concat([repeated, self.candidate], axis=-1)

    def without_gradient(self) -> Sides:
        """Return the same numbers, which teach nothing to what they were made of."""
        query = None if self.query is None else tf.stop_gradient(self.query)
        return Sides(query, tf.stop_gradient(self.candidate))


class RowsDense(tf.keras.layers.Dense):
    """A dense layer over the last axis: [..., K] -> [..., units], as one product of matrices.

    Keras does the same, but asks for the shape with a dozen operations: a tenth of what a request
    runs.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiply."""
        shape = tf.concat([tf.shape(inputs)[:-1], [self.units]], axis=0)
        # [..., K] -> [n, K], and [n, units] -> [..., units]
        flat = super().call(tf.reshape(inputs, [-1, static_length(inputs, -1)]))
        return tf.reshape(flat, shape)


class SidesDense(tf.Module):
    """A dense layer of both sides joined, whose query part is multiplied once per query.

    A row of weights for each feature, as in a layer over `Sides.joined`: the product of a joined
    vector is the sum of its parts' products.
    """

    def __init__(
        self,
        units: int,
        *,
        name: str,
        bias: bool = True,
        activation: str | None = None,
        initializer: str = "glorot_uniform",
    ) -> None:
        super().__init__(name=name)
        self._query = tf.keras.layers.Dense(
            units, use_bias=False, kernel_initializer=initializer, name=f"{name}_query"
        )
        self._candidate = RowsDense(
            units, use_bias=bias, kernel_initializer=initializer, name=f"{name}_candidate"
        )
        self._activation = tf.keras.activations.get(activation)

    def __call__(self, sides: Sides) -> tf.Tensor:
        """Multiply, [B, C, units]."""
        product = self._candidate(sides.candidate)
        if sides.query is not None:
            product += self._query(sides.query)[:, tf.newaxis, :]
        return self._activation(product)

    @property
    def candidate_kernel(self) -> tf.Variable:
        """The weights of the candidate's features, [K, units]."""
        return self._candidate.kernel


class Layers(tf.Module):
    """Dense layers with rectified units and dropout, one after the other (none pass the input on).

    `widths` are their units; `salt` tells their dropout from that of others.
    """

    def __init__(self, widths: Sequence[int], *, rate: float, salt: int, name: str) -> None:
        super().__init__(name=name)
        self._rate, self._salt = rate, salt
        self._first = SidesDense(widths[0], activation="relu", name=f"{name}_0") if widths else None
        self._rest = [
            RowsDense(width, activation="relu", name=f"{name}_{place}")
            for place, width in enumerate(widths[1:], start=1)
        ]

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> tf.Tensor:
        """Transform, [B, C, last width]."""
        if self._first is None:
            return sides.joined()
        hidden = dropout(self._first(sides), self._rate, seed, salt=self._salt)
        for place, layer in enumerate(self._rest, start=1):
            hidden = dropout(layer(hidden), self._rate, seed, salt=self._salt + place)
        return hidden

    @property
    def last_kernels(self) -> list[tf.Variable]:
        """The weights of the last layer, none where there is no layer."""
        if self._rest:
            return [self._rest[-1].kernel]
        return [] if self._first is None else [self._first.candidate_kernel]
