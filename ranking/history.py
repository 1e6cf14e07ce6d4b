"""What a query's history says of each candidate: its mean, target attention, or a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from features.backend import tf
from ranking.config import RankingConfig
from ranking.sides import RowsDense
from training.dropout import dropout

_FAR = -1e9


@dataclass(frozen=True)
class HistoryItems:
    """The items of histories, as vectors."""

    vectors: tf.Tensor
    """[B, H, D] float32."""
    mask: tf.Tensor
    """[B, H] float32, 1 where an item is real; the real ones come first, oldest first."""

    def mean(self) -> tf.Tensor:
        """Mean of the real vectors, [B, D]; 0 where there is none."""
        count = tf.maximum(tf.reduce_sum(self.mask, axis=1, keepdims=True), 1.0)
        return tf.reduce_sum(self.vectors * self.mask[:, :, tf.newaxis], axis=1) / count

    def age(self, most: int) -> tf.Tensor:
        """How many items came after each, [B, H] int32, at most `most`."""
        count = tf.cast(tf.reduce_sum(self.mask, axis=1, keepdims=True), tf.int32)
        return tf.clip_by_value(count - 1 - tf.range(tf.shape(self.mask)[1]), 0, most)


class HistoryModel(Protocol):
    """Histories and candidates in, features of each candidate out."""

    def __call__(
        self, history: HistoryItems, candidates: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Return [B, C, features] for `candidates` [B, C, D]; `seed` turns dropout on."""
        ...


def history_of(config: RankingConfig) -> HistoryModel:
    """Make the history model that `config` asks for."""
    dim, length = config.embedding_dim, config.history
    if config.history_model == "target_attention":
        return TargetAttention(dim, units=config.attention_units, length=length)
    if config.history_model == "transformer":
        return CandidateTransformer(
            dim, heads=config.attention_heads, length=length, rate=config.history_dropout
        )
    return MeanHistory()


class MeanHistory(tf.Module):
    """The mean of the history, multiplied with each candidate."""

    def __call__(
        self, history: HistoryItems, candidates: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Return the product and its sum, [B, C, D + 1]."""
        return _with_product(history.mean()[:, tf.newaxis, :], candidates)


class TargetAttention(tf.Module):
    """The history as each candidate sees it (Deep Interest Network, Zhou et al. 2018, section 4.3).

    An item h weighs o . relu(A h + B c + W (h * c) + age) for the candidate c, without a softmax,
    so that the intensity of an interest stays: the paper's activation unit over [h, c, h - c,
    h * c], with a term for how long ago the item was chosen. All units come from one product of
    matrices per query, and nothing of [B, C, H, D] is ever held. o comes in last, as a sum over
    the items is linear: what passes over [B, C, H] more than once is most of the time.
    """

    def __init__(self, dim: int, *, units: int, length: int) -> None:
        super().__init__(name="target_attention")
        self._dim, self._units, self._length = dim, units, length
        self._both = tf.Variable(1.0 + _random(units, dim), name="attention_both")
        self._item = tf.Variable(_random(dim, units), name="attention_item")
        self._candidate = tf.Variable(_random(dim, units), name="attention_candidate")
        self._age = tf.Variable(tf.zeros([length, units]), name="attention_age")
        self._out = tf.Variable(tf.fill([units], 1.0 / units), name="attention_out_bias")

    def __call__(
        self, history: HistoryItems, candidates: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Return attended, its product with the candidate, its sum, the weights' sum and mean."""
        units, dim = self._units, self._dim
        batch, width = tf.shape(candidates)[0], tf.shape(candidates)[1]
        active = tf.nn.relu(
            tf.matmul(self._asked(candidates), self._keys(history), transpose_b=True)
        )
        # a column of ones makes the sum of the weights come with the sum of the items
        values = tf.concat([history.vectors, tf.ones_like(history.vectors[:, :, :1])], axis=-1)
        values *= history.mask[:, :, tf.newaxis]
        # each unit sums the items by itself, [B, C * units, D + 1]: less to weigh than [B, C, H]
        found = tf.matmul(active, values)
        found = tf.reshape(found, tf.stack([batch * width, units * (dim + 1)]))
        # [units, D + 1, D + 1] -> [units * (D + 1), D + 1]
        mix = tf.reshape(self._out[:, tf.newaxis, tf.newaxis] * tf.eye(dim + 1), [-1, dim + 1])
        # [B * C, D + 1] -> [B, C, D + 1]
        attended = tf.reshape(tf.matmul(found, mix), tf.stack([batch, width, dim + 1]))
        count = tf.maximum(tf.reduce_sum(history.mask, axis=1), 1.0)
        attended *= tf.math.rsqrt(count)[:, tf.newaxis, tf.newaxis]
        interest = attended[:, :, :dim]
        return tf.concat(
            [
                attended,
                _with_product(interest, candidates),
                _with_product(history.mean()[:, tf.newaxis, :], candidates),
            ],
            axis=-1,
        )

    def _keys(self, history: HistoryItems) -> tf.Tensor:
        """Of each item: itself, what it adds to each unit by itself and by its age, and 1."""
        age = tf.gather(self._age, history.age(self._length - 1))
        own = tf.matmul(history.vectors, self._item) + age
        return tf.concat([history.vectors, own, tf.ones_like(own[:, :, :1])], axis=-1)

    def _asked(self, candidates: tf.Tensor) -> tf.Tensor:
        """What meets the keys, [B, C * units, D + units + 1].

        Of each candidate and unit: the candidate, scaled, which unit it is, and what the candidate
        adds by itself. All of it is linear in the candidate, so one product makes it.
        """
        units, dim = self._units, self._dim
        batch, width = tf.shape(candidates)[0], tf.shape(candidates)[1]
        scaled = tf.eye(dim)[:, tf.newaxis, :] * self._both
        own = self._candidate[:, :, tf.newaxis]
        linear = tf.concat([scaled, tf.zeros([dim, units, units]), own], axis=-1)
        which = tf.pad(tf.eye(units), [[0, 0], [dim, 1]])
        # [B, C, D] -> [B * C, D], and [D, units, columns] -> [D, units * columns]
        flat = tf.reshape(candidates, [-1, dim])
        asked = tf.matmul(flat, tf.reshape(linear, [dim, -1])) + tf.reshape(which, [-1])
        return tf.reshape(asked, tf.stack([batch, width * units, dim + units + 1]))


class CandidateTransformer(tf.Module):
    """A transformer over the history whose last layer is asked by the candidate.

    As in the Behavior Sequence Transformer (Chen et al. 2019), but a history is encoded by itself,
    once per query, and each candidate attends to the result as a decoder's query does (Vaswani et
    al. 2017, section 3.2.3): 200 candidates do not need 200 passes over the history.
    """

    def __init__(self, dim: int, *, heads: int, length: int, rate: float) -> None:
        super().__init__(name="candidate_transformer")
        self._length, self._rate = length, rate
        self._age = tf.Variable(tf.zeros([length, dim]), name="age_bias")
        self._encode = _Attention(dim, heads=heads, rate=rate, salt=31, name="encode")
        self._ask = _Attention(dim, heads=heads, rate=rate, salt=36, name="ask")

    def __call__(
        self, history: HistoryItems, candidates: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Return what the candidate found, its product with the candidate, and the mean's."""
        items = history.vectors + tf.gather(self._age, history.age(self._length - 1))
        items = dropout(items, self._rate, seed, salt=30)
        encoded = self._encode(items, items, history.mask, seed)
        found = self._ask(candidates, encoded, history.mask, seed)
        return tf.concat(
            [
                found,
                _with_product(found, candidates),
                _with_product(history.mean()[:, tf.newaxis, :], candidates),
            ],
            axis=-1,
        )


class _Attention(tf.Module):
    """Attention of some vectors to others and a feed-forward layer, norms before each."""

    def __init__(self, dim: int, *, heads: int, rate: float, salt: int, name: str) -> None:
        super().__init__(name=name)
        self._dim, self._heads, self._rate, self._salt = dim, heads, rate, salt

        def dense(units: int, role: str, activation: str | None = None) -> tf.keras.layers.Layer:
            return RowsDense(units, activation=activation, name=f"{name}_{role}")

        def norm(role: str) -> tf.keras.layers.Layer:
            return tf.keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_{role}")

        self._query, self._key, self._value = (
            dense(dim, "query"),
            dense(dim, "key"),
            dense(dim, "value"),
        )
        self._out, self._wide, self._narrow = (
            dense(dim, "out"),
            dense(2 * dim, "wide", "relu"),
            dense(dim, "narrow"),
        )
        self._norms = [norm("norm_asking"), norm("norm_asked"), norm("norm_feed")]

    def __call__(
        self, asking: tf.Tensor, asked: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Let `asking` [B, C, D] attend to `asked` [B, H, D] where `mask` [B, H] is 1."""
        query = self._split(self._query(self._norms[0](asking)))
        known = self._norms[1](asked)
        key, value = self._split(self._key(known)), self._split(self._value(known))
        logits = tf.matmul(query, key, transpose_b=True) * (self._dim // self._heads) ** -0.5
        logits += (1.0 - mask)[:, tf.newaxis, tf.newaxis, :] * _FAR
        # an empty history says nothing: the mean of padding would
        there = tf.minimum(tf.reduce_sum(mask, axis=1), 1.0)[:, tf.newaxis, tf.newaxis]
        mixed = self._join(tf.matmul(tf.nn.softmax(logits), value))
        attended = dropout(self._out(mixed), self._rate, seed, salt=self._salt)
        hidden = asking + attended * there
        fed = self._narrow(self._wide(self._norms[2](hidden)))
        return hidden + dropout(fed, self._rate, seed, salt=self._salt + 1)

    def _split(self, values: tf.Tensor) -> tf.Tensor:
        """[B, L, D] -> [B, heads, L, D / heads]."""
        shape = tf.shape(values)
        parts = tf.stack([shape[0], shape[1], self._heads, self._dim // self._heads])
        return tf.transpose(tf.reshape(values, parts), [0, 2, 1, 3])

    def _join(self, values: tf.Tensor) -> tf.Tensor:
        """[B, heads, L, D / heads] -> [B, L, D]."""
        shape = tf.shape(values)
        return tf.reshape(
            tf.transpose(values, [0, 2, 1, 3]), tf.stack([shape[0], shape[2], self._dim])
        )


def _random(rows: int, columns: int) -> tf.Tensor:
    return tf.keras.initializers.GlorotUniform()([rows, columns])


def _with_product(vector: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Product of [B, C or 1, D] vectors with the candidates, and its sum, [B, C, D + 1]."""
    product = vector * candidates
    total = tf.reduce_sum(product, axis=-1, keepdims=True)
    return tf.concat([product, total], axis=-1)
