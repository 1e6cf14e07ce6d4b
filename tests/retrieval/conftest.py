"""A log of users who choose at random, and a retriever of a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

USERS, ITEMS, ROWS = 80, 150, 3000
DAY = 86_400_000_000


def make_log(seed: int = 0, *, has_times: bool = True) -> Any:
    """Coarse times, so that many are equal; items that arrive as time goes by."""
    from interactions.log import EventLog

    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, USERS, ROWS)).astype(np.int32)
    time = rng.integers(0, 300, ROWS)
    order = np.lexsort((time, user))
    time = time[order]
    arrived = ITEMS // 2 + ITEMS // 2 * (time + 1) // 300
    return EventLog(
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        item_ids=np.array([f"i{n}" for n in range(ITEMS)], object),
        user=user,
        item=(rng.random(ROWS) * arrived).astype(np.int32),
        time=time * DAY,
        chosen=rng.random(ROWS) < 0.9,
        exposure=np.ones(ROWS, bool),
        labels={},
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=has_times,
    )


@pytest.fixture(scope="session")
def log():
    """Not to be changed."""
    return make_log()


@dataclass(frozen=True)
class World:
    """A log, its training rows, the rows that come after, and what was trained on the first."""

    log: Any
    early: np.ndarray
    late: np.ndarray
    histories: Any
    searcher: Any
    later_searcher: Any
    """Of a retriever that was trained on most of the late rows too."""


def searcher_of(log: Any, rows: np.ndarray, folder: Any) -> Any:
    from features.config import FeaturesConfig
    from features.entities import EncodedTable, EntityEncoders
    from retrieval.config import RetrievalConfig
    from retrieval.model import RetrieverInputs
    from retrieval.search import Searcher
    from retrieval.training import TrainingData, fit_retriever
    from retrieval.trends import Trends

    def encoded(name: str, ids: np.ndarray, seen: np.ndarray) -> Any:
        table = pa.table({name: pa.array(ids, pa.string())})
        return EntityEncoders.fit_with_ids(
            (), table, id_name=name, counts=np.bincount(seen, minlength=len(ids)),
            config=FeaturesConfig(), folder=folder / name,
        ).encode(table)  # fmt: skip

    nothing = EncodedTable((), {})
    retriever, _ = fit_retriever(
        RetrieverInputs(
            encoded("user_id", log.user_ids, log.user[rows]),
            encoded("item_id", log.item_ids, log.item[rows]),
            (), "user_id", "item_id", Trends.of(log, np.arange(len(log))), log.has_times,
        ),
        TrainingData(log, rows, nothing, False),
        config=RetrievalConfig(
            embedding_dim=8, feature_dim=4, hidden_dim=8, history=10, batch_events=400
        ),
        folder=folder / "retriever",
        seed=1,
        steps=25,
    )  # fmt: skip
    return Searcher(retriever, log=log, context=nothing, seen_rows=rows)


@pytest.fixture(scope="session")
def world(log, tmp_path_factory):
    """Not to be changed."""
    from interactions.histories import Histories

    cut, later = 200 * DAY, 270 * DAY
    early, late = np.flatnonzero(log.time < cut), np.flatnonzero(log.time >= cut)
    return World(
        log, early, late, Histories.of(log),
        searcher_of(log, early, tmp_path_factory.mktemp("early")),
        searcher_of(log, np.flatnonzero(log.time < later), tmp_path_factory.mktemp("later")),
    )  # fmt: skip
