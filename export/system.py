"""What is exported: both trained stages, and their answer in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.backend import tf
from features.entities import EntityEncoders
from interactions.config import FeatureConfig, TaskConfig
from interactions.histories import Histories
from interactions.log import NEVER, EventLog
from interactions.queries import Queries
from interactions.ragged import Ragged
from ranking.model import Ranker
from ranking.scoring import Order, Scorer, readable
from retrieval.search import Searcher

LOWEST = float(np.finfo(np.float32).min)
"""Score of a place that no item fills; finite, as an infinity is not JSON."""


@dataclass(frozen=True)
class RequestEncoders:
    """How each stage encodes the features that a request brings."""

    retriever: EntityEncoders
    ranker: EntityEncoders


@dataclass(frozen=True)
class System:
    """Both stages as they are to answer from now on."""

    log: EventLog
    """Users, items and everything that was ever chosen: histories and exclusions come from it."""
    searcher: Searcher
    """The retriever with its index."""
    scorer: Scorer
    """The ranker, whose `past` is what is known now."""
    order: Order
    candidates: int
    """How many items a request retrieves and ranks."""
    repeats: bool
    """Whether items that a user has chosen before may be recommended again."""
    filterable: tuple[FeatureConfig, ...] = ()
    """Columns of the log's item table that requests may filter by."""
    context_encoders: RequestEncoders | None = None
    """None where requests bring no context: then every query has the blank one."""
    user_encoders: RequestEncoders | None = None
    """None where users have no features but their ids."""

    @property
    def ranker(self) -> Ranker:
        """The second stage."""
        return self.scorer.ranker

    @cached_property
    def histories(self) -> Histories:
        """Everything that anybody chose."""
        return Histories.of(self.log)

    @property
    def tasks(self) -> Mapping[str, TaskConfig]:
        """What the ranker predicts, by name."""
        return self.ranker.tasks


@dataclass(frozen=True)
class Recommended:
    """Lists for some users, best first."""

    item: np.ndarray
    """[users, k] int32 item rows; -1 where no item is left."""
    score: np.ndarray
    """[users, k] float32, what the lists are ordered by; LOWEST where there is no item."""
    retrieval_score: np.ndarray
    """[users, k] float32, standardised."""
    tasks: Mapping[str, np.ndarray]
    """By task, [users, k] float32: probabilities of binary tasks, labels of regressions, the logit
    of the retrieval task."""


def rows_of(ids: np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    """Return the rows [n] int32 of `wanted` ids in `ids` [rows] object, -1 for unknown ones."""
    rows = pc.index_in(pa.array(list(wanted), pa.string()), value_set=pa.array(ids, pa.string()))
    return rows.fill_null(-1).to_numpy().astype(np.int32)


def queries_now(users: np.ndarray) -> Queries:
    """Return the queries of user rows [n] int32 who ask now and say nothing of their context.

    Row -1 of the log is its last, unknown one: the context's encodings have the blank there.
    """
    nothing = np.full(len(users), -1)
    return Queries(nothing.astype(np.int64), users, np.full(len(users), NEVER), nothing)


def seen_by(system: System, users: np.ndarray) -> Ragged:
    """Return the item rows that must not be recommended to user rows [n] int32 (-1 is unknown)."""
    if system.repeats:
        return Ragged.empty(len(users))
    return system.histories.seen_at(users, np.full(len(users), NEVER))


def recommend(system: System, user_ids: Sequence[str], *, k: int) -> Recommended:
    """Recommend up to `k` items to each user, as the exported recommender will.

    An unknown user is answered from what holds for everyone. Items of equal score come in the order
    of their rows.
    """
    users = rows_of(system.log.user_ids, user_ids)
    queries = queries_now(users)
    found = system.searcher.search(queries, k=system.candidates, seen=seen_by(system, users))
    there = found.item >= 0
    predictions = system.scorer.predict(queries, found.item, np.where(there, found.score, 0.0))
    combined = system.order.score({task: tf.constant(p) for task, p in predictions.items()})
    score = np.where(there, combined.numpy(), LOWEST).astype(np.float32)
    best = np.lexsort((found.item, -score), axis=1)[:, :k]
    shown = there[np.arange(len(users))[:, np.newaxis], best]

    def ordered(values: np.ndarray) -> np.ndarray:
        return np.where(shown, np.take_along_axis(values, best, axis=1), np.float32(LOWEST))

    return Recommended(
        item=np.take_along_axis(found.item, best, axis=1),
        score=ordered(score),
        retrieval_score=ordered(found.score),
        tasks={
            task: ordered(readable(system.tasks[task], values).numpy())
            for task, values in predictions.items()
        },
    )
