"""Asking a trained retriever from Python: top-k lists and exact scores for queries of a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from features.backend import tf
from features.entities import EncodedTable
from interactions.blocks import count_values
from interactions.histories import Histories
from interactions.log import NEVER, EventLog
from interactions.queries import Queries
from interactions.ragged import Ragged, take
from retrieval.index import NOTHING, ExactIndex, Found, Index, Without, exclude
from retrieval.model import Retriever
from retrieval.repeats import RepeatBonus, distinct, lift
from retrieval.shared_histories import Pass, passes
from retrieval.standard_scores import CatalogueMoments, SlotMoments

_CHUNK = 256


@dataclass(frozen=True)
class Retrieved:
    """Top-k lists, best first."""

    item: np.ndarray
    """[queries, k] int32 item rows, -1 where fewer than k could be found."""
    score: np.ndarray
    """[queries, k] float32 standardised scores."""


class Searcher:
    """A retriever, the index of its items, and the histories of the log's users.

    Scores are standardised per query over the catalogue, so that those of two retrievers, one of
    which has seen more, are distributed alike. `embeddings`, `index` and `moments` are as of now,
    with the latest trends; a query of the past is answered with the trends of its own time.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        log: EventLog,
        context: EncodedTable,
        seen_rows: np.ndarray,
        offered: np.ndarray | None = None,
    ) -> None:
        """Index the items of `log`; `seen_rows` [n] int64 are the log rows of the training.

        Only items that are `offered` [items] bool can be found, all of them where left out.
        """
        self.retriever = retriever
        self._log, self.context = log, context
        self.offered = np.ones(len(log.item_ids), bool) if offered is None else offered
        self._histories = Histories.of(log)
        self._known = np.flatnonzero(count_values(log.item, seen_rows, size=len(log.item_ids)))
        self._now = now_of(log)
        self._embed_items = tf.function(retriever.embed_items, reduce_retracing=True)
        self._embed_history_items = tf.function(
            retriever.embed_history_items, reduce_retracing=True
        )
        self._embed_queries = tf.function(retriever.embed_queries, reduce_retracing=True)
        self._compute()
        self.index = ExactIndex(self.embeddings, offered=self.offered)
        self.served: Index = self.index
        """What answers queries of now; another index, where one is exported, may be approximate."""
        padding = self.index.padded - len(log.item_ids)
        self._earlier = tf.Variable(
            tf.constant(np.pad(self._slot_bias, ((0, 0), (0, padding)))), trainable=False
        )
        self._first_seen = tf.constant(np.append(log.first_seen, np.full(padding, NEVER)), tf.int64)

    def refresh(self) -> None:
        """Index the items again, after the retriever has learnt more."""
        self._compute()
        self.index.replace(self.embeddings)
        self._earlier[:, : len(self.embeddings)].assign(self._slot_bias)

    def _compute(self) -> None:
        """Embed the catalogue as it is now, and work out how each slot's biases differ from it."""
        trend = self.retriever.trend_bias().numpy()
        self.embeddings = self._embed_catalogue(self._embed_items)
        self.history_embeddings = self.embeddings[:, :-1]
        if not self.retriever.config.tie_history:
            self.history_embeddings = self._embed_catalogue(self._embed_history_items)
        self.moments = CatalogueMoments.of(self.embeddings[self._known])
        self._slot_bias = trend - trend[-1]
        self._slot_moments = SlotMoments.of(
            self.embeddings[self._known], self._slot_bias[:, self._known]
        )

    def embed(self, queries: Queries) -> np.ndarray:
        """Embed queries with their histories as they stood, [queries, D + 1] float32."""
        vectors = np.zeros((len(queries), self.embeddings.shape[1]), np.float32)
        for part in passes(self._histories, queries, length=self.retriever.config.history):
            vectors[part.query] = self._embed_pass(part, queries.take(part.query)).numpy()
        return vectors

    def search(self, queries: Queries, *, k: int, seen: Ragged) -> Retrieved:
        """Find the best k items of each query among those that had appeared by then.

        `seen` holds, per query, the item rows to leave out.
        """
        width = min(k, len(self.embeddings))
        items, scores = [np.zeros((0, width), np.int32)], [np.zeros((0, width), np.float32)]
        embedded = self.embed(queries)
        for index in _chunks(len(queries)):
            part, out, vectors = queries.take(index), take(seen, index), embedded[index]
            excluded = tf.RaggedTensor.from_row_splits(
                out.items.astype(np.int32), out.offsets, validate=False
            )
            slots = self.retriever.trends.slot(part.time)
            if not self.served.is_exact() and (part.time == NEVER).all():
                found = self.served.search(tf.constant(vectors), k=k, rules=Without(excluded))
            else:
                found = self._search(
                    tf.constant(vectors),
                    tf.constant(slots),
                    tf.constant(part.time, tf.int64),
                    excluded,
                    k=k,
                )
            if any(self.retriever.repeat_bonus):
                found = self._with_repeats(
                    found,
                    tf.constant(vectors),
                    tf.constant(slots),
                    self._own(part),
                    excluded,
                    RepeatBonus(*map(tf.constant, self.retriever.repeat_bonus)),
                    k=k,
                )
            items.append(found.item.numpy())
            standard = self._standardised(found.score.numpy(), vectors, slots)
            scores.append(np.where(items[-1] >= 0, standard, np.float32(NOTHING)))
        return Retrieved(np.concatenate(items), np.concatenate(scores))

    def score(self, queries: Queries, items: np.ndarray) -> np.ndarray:
        """Score given item rows [queries, C] (-1: score 0), [queries, C] float32, standardised."""
        scores = np.zeros(items.shape, np.float32)
        embedded = self.embed(queries)
        for index in _chunks(len(queries)):
            part, chosen, vectors = queries.take(index), items[index], embedded[index]
            slots = self.retriever.trends.slot(part.time)
            raw = np.einsum("qd,qcd->qc", vectors, self.embeddings[chosen])
            raw += self._slot_bias[slots[:, np.newaxis], chosen]
            if any(self.retriever.repeat_bonus):
                raw += self.retriever.repeat_bonus.of(tf.constant(chosen), self._own(part)).numpy()
            scores[index] = self._standardised(raw, vectors, slots)
        return np.where(items >= 0, scores, np.float32(0.0))

    def _standardised(self, raw: np.ndarray, vectors: np.ndarray, slots: np.ndarray) -> np.ndarray:
        mean, std = self._slot_moments.scale(vectors, slots)
        return ((raw - mean[:, np.newaxis]) / std[:, np.newaxis]).astype(np.float32)

    def _embed_pass(self, part: Pass, queries: Queries) -> tf.Tensor:
        context = {
            name: tf.constant(values[queries.row]) for name, values in self.context.arrays.items()
        }
        return self._embed_queries(
            tf.constant(self.history_embeddings[part.items]),
            tf.constant(part.times, tf.int64),
            tf.constant(part.count),
            tf.constant(queries.user, tf.int32),
            context,
            tf.constant(np.minimum(queries.time, self._now), tf.int64),
            tf.constant(part.window),
        )

    def _embed_catalogue(self, embed: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
        rows = np.arange(len(self._log.item_ids), dtype=np.int32)
        parts = [embed(tf.constant(part)).numpy() for part in _batched(rows, 8192)]
        return np.concatenate(parts)

    def _own(self, queries: Queries) -> tf.Tensor:
        """What queries' histories hold, [Q, H] int32 item rows, -1 after the last."""
        past = self._histories.before(
            queries.user, queries.time, length=self.retriever.config.history
        )
        return tf.constant(past.items[:, : max(int(past.count.max(initial=0)), 1)])

    @tf.function(reduce_retracing=True)
    def _with_repeats(
        self,
        found: Found,
        queries: tf.Tensor,
        slots: tf.Tensor,
        history: tf.Tensor,
        excluded: tf.RaggedTensor,
        bonus: RepeatBonus,
        *,
        k: int,
    ) -> Found:
        own = self.index.score(queries, distinct(history))
        rows = tf.maximum(own.item, 0)
        slot = tf.repeat(slots[:, tf.newaxis], tf.shape(rows)[1], axis=1)
        score = own.score + tf.gather_nd(self._earlier, tf.stack([slot, rows], axis=2))
        item = tf.where(Without(excluded).passes(rows), own.item, -1)
        width = min(k, self.index.items)
        return lift(found, Found(item, score), history, bonus=bonus, k=width)

    @tf.function(reduce_retracing=True)
    def _search(
        self,
        queries: tf.Tensor,
        slots: tf.Tensor,
        time: tf.Tensor,
        excluded: tf.RaggedTensor,
        *,
        k: int,
    ) -> Found:
        scores = self.index.scores(queries) + tf.gather(self._earlier, slots)
        there = self._first_seen[tf.newaxis, :] <= time[:, tf.newaxis]
        return self.index.top_k(exclude(tf.where(there, scores, NOTHING), excluded), k)


def now_of(log: EventLog) -> int:
    """Return the moment, in microseconds, of requests that come after everything in the log."""
    return int(log.time.max()) + 1 if len(log) else 0


def _chunks(count: int) -> Iterator[np.ndarray]:
    return _batched(np.arange(count), _CHUNK)


def _batched(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (values[start : start + size] for start in range(0, len(values), size))
