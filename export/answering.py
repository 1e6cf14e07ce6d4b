"""How requests to `recommend` are answered: retrieve within the rules, rank, diversify, explain."""

from __future__ import annotations

from typing import NamedTuple

from export.config import RequestConfig
from export.diversity import Pool, choose, shared_counts, similarity
from export.filterable import NO_VALUE
from export.reading import Asked, Variety
from export.recommender import (
    Candidates,
    Predicted,
    Ranked,
    Recommender,
    Sought,
    placed,
    top_k,
    width_of,
)
from export.rules import Excluded, Together, UsedUp
from export.system import LOWEST
from features.backend import tf
from retrieval.index import Filter


class Because(NamedTuple):
    """For each place of a list, what of the user's history is closest to it."""

    item: tf.Tensor
    """[B, K] int32 item rows, -1 where nobody asked, or there is no history."""
    score: tf.Tensor
    """[B, K] float32 cosine of the two items' embeddings; LOWEST where there is none."""


class Answer(NamedTuple):
    """The answer to B requests."""

    best: Ranked
    """[B, K], as many places of a row as it asked for, at most."""
    because: Because
    weights: tf.Tensor
    """[B, tasks] float32, how much each counted."""


class Answering:
    """Answers requests over a recommender's tables."""

    def __init__(
        self, recommender: Recommender, *, candidates: int, max_k: int, widths: RequestConfig
    ) -> None:
        self._recommender = recommender
        self._candidates, self._max_k, self._pool_size = candidates, max_k, widths.pool

    def answer(self, asked: Asked) -> Answer:
        """Answer requests with the best items that their rules let through.

        Requests without wishes pass through the other branches, in which nothing is asked of them.
        """
        asked = asked._replace(k=tf.minimum(asked.k, self._max_k))
        sought = self._recommender.seek(asked.query)
        found = tf.cond(
            asked.wishes,
            lambda: self._retrieved(asked, sought, asked.rules()),
            lambda: self._retrieved(asked, sought, self._recommender.unseen(asked.query)),
        )
        predicted = self._recommender.predict(asked.query, found)
        return tf.cond(
            asked.wishes,
            lambda: self._wished(asked, sought, predicted),
            lambda: self._unwished(asked, predicted),
        )

    def _unwished(self, asked: Asked, predicted: Predicted) -> Answer:
        best = top_k(self._recommender.order(predicted), k=self._max_k).first(asked.k)
        weights = self._recommender.own_weights()[tf.newaxis]
        weights = tf.tile(weights, tf.stack([tf.shape(asked.k)[0], 1]))
        return Answer(best, _unexplained(best.item), weights)

    def _wished(self, asked: Asked, sought: Sought, predicted: Predicted) -> Answer:
        variety, weights = asked.variety(), asked.weights()
        ranked = self._recommender.order(predicted, weights)
        best = tf.cond(
            variety.used(),
            lambda: self._varied(asked, sought, ranked, variety=variety, weights=weights),
            lambda: top_k(ranked, k=self._max_k),
        ).first(asked.k)
        because = tf.cond(
            tf.reduce_any(asked.explain),
            lambda: self._because(asked, best.item),
            lambda: _unexplained(best.item),
        )
        return Answer(best, because, weights)

    def _retrieved(self, asked: Asked, sought: Sought, rules: Filter) -> Candidates:
        return self._recommender.retrieve(asked.query, sought, rules, k=self._candidates)

    def _varied(
        self, asked: Asked, sought: Sought, ranked: Ranked, *, variety: Variety, weights: tf.Tensor
    ) -> Ranked:
        """Choose lists item by item.

        Where limits leave a list short, it goes on among what is retrieved without the values
        that are used up, until it is full or nothing is left.
        """
        steps = min(self._max_k, width_of(ranked.item))
        chosen = self._chosen(asked.k, variety, ranked, steps=steps)
        limits, capped = variety.limits, variety.capped()
        if not limits:
            return chosen

        def another(chosen: Ranked, _: tf.Tensor) -> tuple[Ranked, tf.Tensor]:
            used_up = [
                UsedUp(column, chosen.item, limits[name])
                for name, column in self._recommender.columns.categories.items()
            ]
            rules = Together((asked.rules(), Excluded(chosen.item), *used_up))
            others = self._recommender.order(
                self._recommender.predict(asked.query, self._retrieved(asked, sought, rules)),
                weights,
            )
            more = self._chosen(asked.k, variety, others, steps=steps, before=chosen.item)
            longer = _joined(chosen, more)
            grown = _count(longer) > _count(chosen)
            return longer, grown & capped & (_count(longer) < asked.k)

        short = capped & (_count(chosen) < asked.k)
        return tf.while_loop(lambda _, short: tf.reduce_any(short), another, (chosen, short))[0]

    def _chosen(
        self,
        k: tf.Tensor,
        variety: Variety,
        ranked: Ranked,
        *,
        steps: int,
        before: tf.Tensor | None = None,
    ) -> Ranked:
        """Choose `steps` of the best of `ranked`, to follow the item rows `before` [B, n]."""
        best = top_k(ranked, k=max(self._pool_size, steps))
        places = choose(
            self._pool(best, before),
            strength=variety.strength,
            limit=self._limits(variety),
            most=tf.minimum(tf.reduce_max(k), steps),
            width=steps,
        )
        return placed(best, places)

    def _pool(self, best: Ranked, before: tf.Tensor | None) -> Pool:
        vectors, values = self._recommender.item_vectors(best.item), self._values(best.item)
        nearest, counts = tf.fill(tf.shape(best.item), -1.0), tf.zeros_like(values)
        if before is not None:
            near = similarity(vectors, self._recommender.item_vectors(before))
            near = tf.where((before >= 0)[:, tf.newaxis, :], near, -1.0)
            nearest = tf.reduce_max(near, axis=2)
            counts = shared_counts(values, self._values(before))
        alike = similarity(vectors, vectors)
        return Pool(best.item >= 0, best.score, alike, nearest, values, counts)

    def _values(self, items: tf.Tensor) -> tf.Tensor:
        """Values of all categories of item rows [B, n], [B, n, W] int32; 0 is none."""
        codes, before = [tf.zeros_like(items)[:, :, tf.newaxis][:, :, :0]], 0
        for column in self._recommender.columns.categories.values():
            values = column.of(items)
            # shifted, so that no two categories share a code
            codes.append(tf.where(values == NO_VALUE, NO_VALUE, values + before))
            before += column.distinct
        return tf.concat(codes, axis=2)

    def _limits(self, variety: Variety) -> tf.Tensor:
        """The limit of each of `_values`, [B, W] int32."""
        limits = [tf.zeros_like(variety.strength, tf.int32)[:, tf.newaxis][:, :0]]
        for name, column in self._recommender.columns.categories.items():
            limits.append(tf.repeat(variety.limits[name][:, tf.newaxis], column.width, 1))
        return tf.concat(limits, axis=1)

    def _because(self, asked: Asked, items: tf.Tensor) -> Because:
        """Find the closest item of each history, by embedding, for items [B, K]."""
        past = asked.query.past.items
        near = similarity(
            self._recommender.item_vectors(items), self._recommender.item_vectors(past)
        )
        near = tf.where((past >= 0)[:, tf.newaxis, :], near, LOWEST)
        closest = tf.argmax(near, axis=2, output_type=tf.int32)
        there = (items >= 0) & asked.explain[:, tf.newaxis]
        return Because(
            tf.where(there, tf.gather(past, closest, batch_dims=1), -1),
            tf.where(there, tf.reduce_max(near, axis=2), LOWEST),
        )


def _joined(first: Ranked, second: Ranked) -> Ranked:
    """Append lists [B, K] to lists [B, K]; what does not fit is left out."""
    both = tf.nest.map_structure(lambda a, b: tf.concat([a, b], axis=1), first, second)
    order = tf.argsort(tf.cast(both.item < 0, tf.int32), axis=1, stable=True)
    return placed(both, order[:, : width_of(first.item)])


def _count(lists: Ranked) -> tf.Tensor:
    """How many places of lists [B, K] are filled, [B] int32."""
    return tf.reduce_sum(tf.cast(lists.item >= 0, tf.int32), axis=1)


def _unexplained(items: tf.Tensor) -> Because:
    return Because(tf.fill(tf.shape(items), -1), tf.fill(tf.shape(items), LOWEST))
