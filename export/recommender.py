"""Both stages in one graph: encode, retrieve, filter, rank, diversify, top-k, in stock ops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from export.filterable import filterable_columns
from export.identifiers import Identifiers
from export.rules import Together
from export.system import LOWEST, System
from export.user_state import Past, UserState
from features.backend import tf
from features.entities import EncodedTable
from ranking.model import Request
from ranking.scoring import readable
from retrieval.index import Filter, Found, Index, Without
from retrieval.repeats import distinct, lift
from retrieval.search import now_of
from retrieval.standard_scores import Standardise


class Query(NamedTuple):
    """Who asks, when, and what is known of them."""

    users: tf.Tensor
    """[B] int32 user rows, -1 is unknown."""
    time: tf.Tensor
    """[B] int64, when it is asked, in microseconds since 1970."""
    past: Past
    """What the user chose before."""
    retriever_context: Mapping[str, tf.Tensor]
    """Context as the retriever encodes it, by feature, [B] or [B, width]."""
    ranker_context: Mapping[str, tf.Tensor]
    """The same as the ranker encodes it."""
    retriever_about: Mapping[str, tf.Tensor] | None = None
    """What the request itself says of the user, as `retriever_context`; None asks the tables."""
    ranker_about: Mapping[str, tf.Tensor] | None = None


class Candidates(NamedTuple):
    """What the first stage found, best first."""

    item: tf.Tensor
    """[B, C] int32 item rows, -1 where no more are left."""
    score: tf.Tensor
    """[B, C] float32, standardised over the catalogue; 0 where there is no item."""


class Sought(NamedTuple):
    """What queries look for, before any rule."""

    vectors: tf.Tensor
    """[B, D] float32, as `embed` returns them."""
    looked: tf.Tensor
    """What the index makes of them."""


class Predicted(NamedTuple):
    """What the second stage says of candidates [B, C]."""

    candidates: Candidates
    raw: Mapping[str, tf.Tensor]
    """By task, [B, C] float32, as the ranker gives it."""
    shown: Mapping[str, tf.Tensor]
    """By task, [B, C] float32, as people read it."""


class Ranked(NamedTuple):
    """Candidates with what the second stage says of them, in any order."""

    item: tf.Tensor
    """[B, C] int32, -1 is none."""
    score: tf.Tensor
    """[B, C] float32, what the list is ordered by."""
    retrieval_score: tf.Tensor
    """[B, C] float32."""
    tasks: Mapping[str, tf.Tensor]
    """By task, [B, C] float32, as people read it."""

    def first(self, k: tf.Tensor) -> Ranked:
        """Leave the first k [B] int32 of each row and no item after them."""
        wanted = tf.range(width_of(self.item)) < k[:, tf.newaxis]
        return self._replace(item=tf.where(wanted, self.item, -1))


class Recommender:
    """The steps of a request, each a function of tensors over the tables of a `System`."""

    def __init__(
        self,
        system: System,
        *,
        users: Identifiers,
        items: Identifiers,
        index: Index | None = None,
    ) -> None:
        """Make the tables; `index` retrieves in place of the system's own, which is exact."""
        self.system, self.users, self.items = system, users, items
        self.retriever, self.exact = system.searcher.retriever, system.searcher.index
        self.index = index or self.exact
        self.columns = filterable_columns(
            system.filterable, system.log.item_table, padded=self.exact.padded
        )
        self.context_encoders, self.user_encoders = system.context_encoders, system.user_encoders
        self.repeats = system.repeats
        self.state = UserState(system)
        self._ranker, self._order = system.ranker, system.order
        self._standardise = Standardise(system.searcher.moments)
        self._now = tf.constant(now_of(system.log), tf.int64)
        # beside the index, which keeps them transposed: to gather a row from it reads a line of
        # memory for each number
        vectors = tf.constant(system.searcher.embeddings[:, :-1])
        self._item_table = tf.Variable(vectors, trainable=False, name="item_vectors")
        self._history_table = self._item_table
        if not self.retriever.config.tie_history:
            vectors = tf.constant(system.searcher.history_embeddings)
            self._history_table = tf.Variable(vectors, trainable=False, name="history_items")
        # a request gathers them; what they are made of need not be in the graph
        vectors = tf.constant(system.ranker.vectors_of_items())
        self._ranker_items = tf.Variable(vectors, trainable=False, name="ranker_item_vectors")
        self._retriever_blank = _blank(system.searcher.context)
        self._ranker_blank = _blank(system.scorer.context)

    @property
    def tables(self) -> list[tf.Module]:
        """What holds the lookup tables of the graph, to be saved with it."""
        held = [self.users.table, self.items.table]
        for encoders in (self.context_encoders, self.user_encoders):
            if encoders is not None:
                held += [encoders.retriever, encoders.ranker]
        return held

    def about(self, users: tf.Tensor) -> tuple[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]]:
        """Return what the tables know of users [B] int32, for the retriever and for the ranker."""
        return self.retriever.users(users), self._ranker.users(users)

    def own_weights(self) -> tf.Tensor:
        """Return how much each task counts, by name, where a request does not say, [tasks]."""
        return tf.constant(
            [self._order.weights[task] for task in sorted(self._ranker.tasks)], tf.float32
        )

    def recommend(self, user_id: tf.Tensor, *, candidates: int, k: int) -> Ranked:
        """Answer requests of users [B] string with their best `k` of `candidates` items."""
        query = self.encode(user_id)
        found = self.retrieve(query, self.seek(query), self.unseen(query), k=candidates)
        return top_k(self.order(self.predict(query, found)), k=k)

    def encode(self, user_id: tf.Tensor) -> Query:
        """Look up what the tables know of users [B] string, who say nothing of their context."""
        users = self.users.rows(user_id)
        batch = tf.shape(users)[0]
        return Query(
            users=users,
            time=tf.fill([batch], self._now),
            past=self.state.history(users),
            retriever_context=_repeated(self._retriever_blank, batch),
            ranker_context=_repeated(self._ranker_blank, batch),
        )

    def embed(self, query: Query) -> tf.Tensor:
        """Turn queries into vectors [B, D] float32.

        Their product with an item's is its score, but for the bonus that repeats may have.
        """
        past = query.past.latest(self.retriever.config.history).trimmed()
        return self.retriever.embed_queries(
            tf.gather(self._history_table, tf.maximum(past.items, 0)),
            past.times,
            past.length,
            query.users,
            query.retriever_context,
            query.time,
            about=query.retriever_about,
        )

    def item_vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Embed item rows [B, n] int32, [B, n, D] of length 1, without their biases.

        Rows below 0 get another item's vector.
        """
        return tf.gather(self._item_table, tf.maximum(rows, 0))

    def unseen(self, query: Query) -> Filter:
        """Let through what the users have not chosen before, or everything where that repeats."""
        return Together(() if self.repeats else (Without(self.state.seen(query.users)),))

    def seek(self, query: Query) -> Sought:
        """Embed queries, and look for what is close to them."""
        vectors = self.embed(query)
        return Sought(vectors, self.index.look(vectors))

    def retrieve(self, query: Query, sought: Sought, rules: Filter, *, k: int) -> Candidates:
        """Find the best `k` items that `rules` let through, and standardise their scores."""
        found = self.index.find(sought.looked, k=k, rules=rules)
        if any(self.retriever.repeat_bonus):
            found = self._with_repeats(found, query, sought.vectors, rules, k=k)
        scale = self._standardise.scale(sought.vectors)
        standard = (found.score - scale.mean) / scale.std
        return Candidates(found.item, tf.where(found.item >= 0, standard, 0.0))

    def _with_repeats(
        self, found: Found, query: Query, vectors: tf.Tensor, rules: Filter, *, k: int
    ) -> Found:
        """Let what the users chose before come up, by the retriever's bonus for it."""
        history = query.past.latest(self.retriever.config.history).trimmed().items
        own = self.exact.score(vectors, distinct(history))
        item = tf.where(rules.passes(tf.maximum(own.item, 0)), own.item, -1)
        bonus = self.retriever.repeat_bonus
        return lift(
            found, own._replace(item=item), history, bonus=bonus, k=min(k, self.exact.items)
        )

    def predict(self, query: Query, candidates: Candidates) -> Predicted:
        """Predict every task for the candidates."""
        history = query.past.latest(self._ranker.config.history).items
        predictions = self._ranker(
            Request(
                query.users,
                history,
                query.ranker_context,
                candidates.item,
                candidates.score,
                query.ranker_about,
            ),
            item_vectors=self._ranker_items,
        )
        shown = {
            task: readable(self._ranker.tasks[task], value) for task, value in predictions.items()
        }
        return Predicted(candidates, predictions, shown)

    def order(self, predicted: Predicted, weights: tf.Tensor | None = None) -> Ranked:
        """Combine predictions into the score of the order.

        `weights` [B, tasks] float32 say how much each task counts, by the tasks' names in
        alphabetical order; as the order says where left out.
        """
        if weights is None:
            score = self._order.score(predicted.raw)
        else:
            score = self._weighted(predicted.raw, weights)
        found = predicted.candidates
        return Ranked(found.item, score, found.score, predicted.shown)

    def _weighted(self, predictions: Mapping[str, tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
        """As `Order.score`, with weights [B, tasks] of each request's own."""
        parts = [
            weights[:, place, tf.newaxis]
            * replace(self._order, weights={task: 1.0}).score(predictions)
            for place, task in enumerate(sorted(self._ranker.tasks))
        ]
        return tf.add_n(parts)


def top_k(ranked: Ranked, *, k: int) -> Ranked:
    """Return the best `k` of `ranked` candidates, fewer where there are not so many.

    Items of equal score come in the order of their rows, wherever retrieval had put them.
    """
    score = tf.where(ranked.item >= 0, ranked.score, LOWEST)
    by_row = tf.argsort(ranked.item, axis=1)
    _, best = tf.math.top_k(tf.gather(score, by_row, batch_dims=1), min(k, width_of(ranked.item)))
    return placed(ranked._replace(score=score), tf.gather(by_row, best, batch_dims=1))


def placed(ranked: Ranked, places: tf.Tensor) -> Ranked:
    """Return the candidates at `places` [B, n] int32; none, with the lowest score, at -1."""
    there, real = places >= 0, tf.maximum(places, 0)

    def at(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, real, batch_dims=1)

    return Ranked(
        tf.where(there, at(ranked.item), -1),
        tf.where(there, at(ranked.score), LOWEST),
        at(ranked.retrieval_score),
        {task: at(values) for task, values in ranked.tasks.items()},
    )


def width_of(tensor: tf.Tensor) -> int:
    """Return the length of the second axis, which must be fixed in the graph."""
    width = tensor.shape[1]
    if width is None:
        raise ValueError(f"the second axis of {tensor.name} has no fixed length")
    return width


def _blank(context: EncodedTable) -> dict[str, tf.Tensor]:
    """The encoding of a context that says nothing: the table's last row."""
    return {name: tf.constant(values[-1:]) for name, values in context.arrays.items()}


def _repeated(blank: Mapping[str, tf.Tensor], batch: tf.Tensor) -> dict[str, tf.Tensor]:
    """[1] or [1, width] -> [B] or [B, width]."""
    return {name: tf.repeat(value, batch, axis=0) for name, value in blank.items()}
