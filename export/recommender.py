"""Both stages in one graph: encode, retrieve, filter, rank, top-k, in stock TensorFlow ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from export.identifiers import Identifiers
from export.system import LOWEST, System
from export.user_state import Past, UserState
from features.backend import tf
from features.entities import EncodedTable
from ranking.model import Request
from ranking.scoring import readable
from retrieval.index import exclude
from retrieval.search import now_of
from retrieval.standard_scores import Standardise


class Query(NamedTuple):
    """Everything that a request says, and the tables say of its users."""

    users: tf.Tensor
    """[B] int32 user rows, -1 is unknown."""
    time: tf.Tensor
    """[B] int64, when it is asked, in microseconds since 1970."""
    past: Past
    """What the user chose before."""
    seen: tf.RaggedTensor
    """[B, ragged] int32 item rows that must not come back."""
    retriever_context: Mapping[str, tf.Tensor]
    """Context as the retriever encodes it, by feature, [B] or [B, width]."""
    ranker_context: Mapping[str, tf.Tensor]
    """The same as the ranker encodes it."""


class Candidates(NamedTuple):
    """What the first stage found, best first."""

    item: tf.Tensor
    """[B, C] int32 item rows, -1 where no more are left."""
    score: tf.Tensor
    """[B, C] float32, standardised over the catalogue; 0 where there is no item."""


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


class Recommender:
    """The steps of a request, each a function of tensors over the tables of a `System`."""

    def __init__(self, system: System, *, users: Identifiers, items: Identifiers) -> None:
        self.users, self.items = users, items
        self.retriever, self.index = system.searcher.retriever, system.searcher.index
        self._ranker, self._order, self._repeats = system.ranker, system.order, system.repeats
        self._standardise = Standardise(system.searcher.moments)
        self._state = UserState(system)
        self._now = tf.constant(now_of(system.log), tf.int64)
        self._history_table = None
        if not self.retriever.config.tie_history:
            vectors = tf.constant(system.searcher.history_embeddings)
            self._history_table = tf.Variable(vectors, trainable=False, name="history_items")
        self._retriever_blank = _blank(system.searcher.context)
        self._ranker_blank = _blank(system.scorer.context)

    def recommend(self, user_id: tf.Tensor, *, candidates: int, k: int) -> Ranked:
        """Answer requests of users [B] string with their best `k` of `candidates` items."""
        query = self.encode(user_id)
        vectors = self.embed(query)
        scores = self.filter(self.retrieve(vectors), query)
        found = self.nearest(vectors, scores, k=candidates)
        return top_k(self.rank(query, found), k=k)

    def encode(self, user_id: tf.Tensor) -> Query:
        """Look up what the tables know of users [B] string, who say nothing of their context."""
        users = self.users.rows(user_id)
        batch = tf.shape(users)[0]
        return Query(
            users=users,
            time=tf.fill([batch], self._now),
            past=self._state.history(users),
            seen=self._state.seen(users),
            retriever_context=_repeated(self._retriever_blank, batch),
            ranker_context=_repeated(self._ranker_blank, batch),
        )

    def embed(self, query: Query) -> tf.Tensor:
        """Turn queries into vectors [B, D] float32, whose product with an item's is its score."""
        past = query.past.latest(self.retriever.config.history).trimmed()
        return self.retriever.embed_queries(
            self._history_items(tf.maximum(past.items, 0)),
            past.times,
            past.length,
            query.users,
            query.retriever_context,
            query.time,
        )

    def _history_items(self, rows: tf.Tensor) -> tf.Tensor:
        """Embed item rows [B, H] int32 as histories have them, [B, H, D]."""
        if self._history_table is not None:
            return tf.gather(self._history_table, rows)
        # [B, H, D + 1] -> [B, H, D]: a bias is no part of a history
        return self.index.gather(rows)[:, :, :-1]

    def retrieve(self, vectors: tf.Tensor) -> tf.Tensor:
        """Score the whole catalogue for query vectors [B, D], [B, padded items] float32."""
        return self.index.scores(vectors)

    def filter(self, scores: tf.Tensor, query: Query) -> tf.Tensor:
        """Take out of `scores` [B, padded items] what must not come back."""
        return scores if self._repeats else exclude(scores, query.seen)

    def nearest(self, vectors: tf.Tensor, scores: tf.Tensor, *, k: int) -> Candidates:
        """Find the best `k` items, fewer in a smaller catalogue, and standardise their scores."""
        found = self.index.top_k(scores, k)
        scale = self._standardise.scale(vectors)
        standard = (found.score - scale.mean) / scale.std
        return Candidates(found.item, tf.where(found.item >= 0, standard, 0.0))

    def rank(self, query: Query, candidates: Candidates) -> Ranked:
        """Predict every task for the candidates, and combine them into the score of the order."""
        history = query.past.latest(self._ranker.config.history).items
        predictions = self._ranker(
            Request(query.users, history, query.ranker_context, candidates.item, candidates.score)
        )
        shown = {
            task: readable(self._ranker.tasks[task], value) for task, value in predictions.items()
        }
        return Ranked(candidates.item, self._order.score(predictions), candidates.score, shown)


def top_k(ranked: Ranked, *, k: int) -> Ranked:
    """Return the best `k` of `ranked` candidates, fewer where there are not so many.

    Items of equal score come in the order of their rows, wherever retrieval had put them.
    """
    score = tf.where(ranked.item >= 0, ranked.score, LOWEST)
    by_row = tf.argsort(ranked.item, axis=1)
    _, best = tf.math.top_k(tf.gather(score, by_row, batch_dims=1), min(k, width_of(ranked.item)))
    place = tf.gather(by_row, best, batch_dims=1)
    return Ranked(
        tf.gather(ranked.item, place, batch_dims=1),
        tf.gather(score, place, batch_dims=1),
        tf.gather(ranked.retrieval_score, place, batch_dims=1),
        {task: tf.gather(value, place, batch_dims=1) for task, value in ranked.tasks.items()},
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
