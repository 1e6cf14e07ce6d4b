"""A small trained system and its bundle, for the rooms that need one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

USERS, ITEMS = 60, 40


def make_log() -> Any:
    """50 users who choose items of their own group, and 10 who only stand in the users file."""
    from interactions.log import EventLog, Labels

    rng = np.random.default_rng(5)
    user = np.sort(rng.integers(0, USERS - 10, 900)).astype(np.int32)
    group = user % 4
    item = np.where(
        rng.random(900) < 0.8,
        rng.integers(0, ITEMS // 4, 900) * 4 + group,
        rng.integers(0, ITEMS, 900),
    )
    time = np.concatenate(
        [np.sort(rng.integers(0, 10**6, n)) for n in np.bincount(user, minlength=USERS)]
    )
    rating = np.where(rng.random(900) < 0.5, 3.0 + (item % 4 == group), np.nan)
    now = np.full(900, -1)
    return EventLog(
        user_ids=np.array([f"user {n} é" for n in range(USERS)], object),
        item_ids=np.array([f"item-{n}" for n in range(ITEMS)], object),
        user=user,
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        chosen=rng.random(900) < 0.9,
        exposure=np.ones(900, bool),
        labels={
            "rating": Labels(rating.astype(np.float32), now),
            "purchase": Labels((rng.random(900) < 0.3).astype(np.float32), now),
        },
        event_table=pa.table({"device": rng.choice(["phone", "desk"], 900)}),
        user_table=pa.table({"region": rng.choice(["north", "south"], USERS)}),
        item_table=pa.table(
            {
                "category": [f"c{n % 4}" for n in range(ITEMS)],
                "price": rng.random(ITEMS) * 10,
                "title": [f"thing number {n % 7}" for n in range(ITEMS)],
            }
        ),
        has_times=True,
    )


@dataclass(frozen=True)
class Tables:
    """Encoded users, items and contexts."""

    users: Any
    items: Any
    context: Any


def encode(log: Any, folder: Path) -> Tables:
    from features.config import FeaturesConfig
    from features.entities import EntityEncoders
    from interactions.config import FeatureConfig

    config = FeaturesConfig(text_buckets=64, text_trigrams=4, text_words=4)
    kinds = {
        "device": "categorical", "region": "categorical",
        "category": "categories", "price": "numeric", "title": "text",
    }  # fmt: skip

    def features(table: pa.Table) -> list[Any]:
        return [FeatureConfig(name=name, kind=kinds[name]) for name in table.column_names]

    def entity(name: str, ids: np.ndarray, table: pa.Table, counts: np.ndarray) -> Any:
        with_ids = table.append_column(f"{name}_id", pa.array(ids, pa.string()))
        encoders = EntityEncoders.fit_with_ids(
            features(table), with_ids, id_name=f"{name}_id", counts=counts, config=config,
            folder=folder / name,
        )  # fmt: skip
        return encoders.encode(with_ids)

    events = EntityEncoders.fit(
        features(log.event_table), log.event_table, config=config, folder=folder / "event"
    )
    counts = [np.bincount(log.user, minlength=USERS), np.bincount(log.item, minlength=ITEMS)]
    return Tables(
        entity("user", log.user_ids, log.user_table, counts[0]),
        entity("item", log.item_ids, log.item_table, counts[1]),
        events.encode(log.event_table),
    )


def train_system(folder: Path, *, repeats: bool = False, candidates: int = 12) -> Any:
    """Train both stages for a few steps: enough that every weight has moved."""
    from export.system import System
    from features.neighbours import neighbours
    from features.statistics import statistics
    from interactions.candidates import Exposures
    from interactions.config import TaskConfig
    from interactions.histories import Histories
    from interactions.queries import Queries, queries
    from ranking.config import RankingConfig
    from ranking.model import Past, RankerInputs
    from ranking.scoring import Order, Scorer
    from ranking.training import Examples, fit_ranker
    from retrieval.candidates import sample_candidates
    from retrieval.config import RetrievalConfig
    from retrieval.model import RetrieverInputs
    from retrieval.search import Searcher
    from retrieval.training import TrainingData, fit_retriever
    from retrieval.trends import Trends

    log = make_log()
    rows = np.arange(len(log))
    tables = encode(log, folder / "features")
    histories = Histories.of(log)
    retriever, _ = fit_retriever(
        RetrieverInputs(
            tables.users,
            tables.items,
            tables.context.specs,
            "user_id",
            "item_id",
            Trends.of(log, rows),
            log.has_times,
        ),
        TrainingData(log, rows, tables.context, repeats),
        config=RetrievalConfig(embedding_dim=8, feature_dim=4, hidden_dim=8, history=6),
        folder=folder / "retriever",
        seed=1,
        steps=20,
    )
    searcher = Searcher(retriever, log=log, context=tables.context, seen_rows=rows)
    asked = queries(log, rows, repeats=repeats)
    table = sample_candidates(
        searcher, asked, seen=histories.seen(asked.row), available=log.first_seen,
        retrieved=candidates, negatives=8, random_share=0.25, seed=1,
    )  # fmt: skip
    labels = {task: label.value for task, label in log.labels.items()}
    known = statistics(log, rows, labels)
    past = Past(known, neighbours(log, rows, width=4))
    shown = Queries(rows, log.user, log.time, log.item)
    scores = searcher.score(shown, shown.item[:, np.newaxis])[:, 0]
    tasks = {
        "retrieval": TaskConfig(),
        "rating": TaskConfig(kind="regression", column="rating"),
        "purchase": TaskConfig(kind="binary", column="purchase"),
    }
    ranker, _ = fit_ranker(
        RankerInputs(
            tables.users, tables.items, tables.context.specs, "item_id", "user_id", tasks,
            known.label_mean, known.label_std,
        ),
        Examples(table, Exposures(shown, scores, labels), past),
        validation=None,
        histories=histories,
        context=tables.context,
        config=RankingConfig(
            candidates=candidates, embedding_dim=8, feature_dim=4, cross_rank=4,
            tower_dims=(8,), history=9, neighbours=4,
        ),
        folder=folder / "ranker",
        seed=1,
        steps=40,
    )  # fmt: skip
    return System(
        log=log,
        searcher=searcher,
        scorer=Scorer(ranker, histories=histories, context=tables.context),
        order=Order.of(ranker, {"retrieval": 1.0, "rating": 0.5, "purchase": 0.7}),
        candidates=candidates,
        repeats=repeats,
    )


@pytest.fixture(scope="session")
def trained_system(tmp_path_factory):
    """A System of 60 users, 10 of them without a history, and 40 items; not to be changed."""
    return train_system(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory, trained_system):
    """A bundle of `trained_system` with max_k 10; not to be changed."""
    from export.bundle import export_bundle
    from export.config import ExportConfig

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    config = ExportConfig(max_k=10, max_batch=8, parity_users=20)
    return export_bundle(trained_system, folder=folder, config=config)
