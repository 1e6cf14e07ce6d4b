"""A bundle of a given size for load tests: generated data, weights that have hardly moved.

What a graph costs depends on its sizes, not on what it has learnt; so both stages are trained for a
few steps only, with their default config, and leave through the project's own export.

    python -m benchmarks.serving.bundle FOLDER --items 100000 --users 20000
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from export.bundle import export_bundle
from export.config import ExportConfig
from export.system import System
from features.config import FeaturesConfig
from features.entities import EntityEncoders
from features.neighbours import neighbours
from features.statistics import statistics
from interactions.candidates import Exposures
from interactions.config import FeatureConfig, FeatureKind, TaskConfig
from interactions.histories import Histories
from interactions.log import EventLog, Labels
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

EVENTS_PER_USER = 20
STEPS = 5
_RANKED_QUERIES = 256


@dataclass(frozen=True)
class Tables:
    """Encoded users, items and contexts."""

    users: Any
    items: Any
    context: Any


def make_bundle(
    folder: Path,
    *,
    items: int,
    users: int,
    seed: int,
    console: Console,
    events_per_user: int = EVENTS_PER_USER,
) -> None:
    """Write the next version of the bundle in `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        console.print(f"make a log of {users:,} users and {items:,} items")
        log = make_log(items=items, users=users, seed=seed, events_per_user=events_per_user)
        system = make_system(log, Path(scratch), seed=seed)
        config = ExportConfig(max_batch=32, parity_users=8)
        export_bundle(system, folder=folder, config=config, console=console)


def make_log(
    *, items: int, users: int, seed: int, events_per_user: int = EVENTS_PER_USER
) -> EventLog:
    """Return events in which popular items are chosen most (Zipf), with a few features."""
    rng = np.random.default_rng(seed)
    events = users * events_per_user
    user = np.repeat(np.arange(users, dtype=np.int32), events_per_user)
    item = (rng.zipf(1.2, events) - 1) % items
    item[:items] = rng.permutation(items)[: len(item[:items])]
    time = np.sort(rng.integers(0, 10**12, (users, events_per_user)), axis=1).ravel()
    now = np.full(events, -1)
    rating = rng.integers(1, 6, events).astype(np.float32)
    bought = (rng.random(events) < 0.3).astype(np.float32)
    return EventLog(
        user_ids=np.array([f"user-{n}" for n in range(users)], object),
        item_ids=np.array([f"item-{n}" for n in range(items)], object),
        user=user,
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        chosen=np.ones(events, bool),
        exposure=np.ones(events, bool),
        labels={"rating": Labels(rating, now), "purchase": Labels(bought, now)},
        event_table=pa.table({"device": rng.choice(["phone", "desk"], events)}),
        user_table=pa.table({"region": rng.choice(["north", "south"], users)}),
        item_table=pa.table(
            {
                "category": [f"c{n}" for n in rng.integers(0, 50, items)],
                "price": rng.lognormal(size=items),
                "title": [f"thing {a} of kind {b}" for a, b in rng.integers(0, 999, (items, 2))],
            }
        ),
        has_times=True,
    )


def make_system(log: EventLog, folder: Path, *, seed: int) -> System:
    """Train both stages for a few steps, with the default config."""
    tables = encode(log, folder / "features")
    histories = Histories.of(log)
    searcher = make_searcher(log, tables, folder / "retriever", seed=seed)
    scorer, config = make_scorer(log, tables, searcher, histories, folder / "ranker", seed=seed)
    return System(
        log=log,
        searcher=searcher,
        scorer=scorer,
        order=Order.of(scorer.ranker, {"retrieval": 1.0, "rating": 0.5, "purchase": 1.0}),
        candidates=config.candidates,
        repeats=False,
        filterable=(
            FeatureConfig(name="category", kind="categories", filterable=True),
            FeatureConfig(name="price", kind="numeric", filterable=True),
        ),
    )


def encode(log: EventLog, folder: Path) -> Tables:
    """Fit encoders to the tables of the log and encode them."""
    config = FeaturesConfig()
    kinds: dict[str, FeatureKind] = {
        "device": "categorical", "region": "categorical",
        "category": "categories", "price": "numeric", "title": "text",
    }  # fmt: skip

    def features(table: pa.Table) -> list[FeatureConfig]:
        return [FeatureConfig(name=name, kind=kinds[name]) for name in table.column_names]

    def entity(name: str, ids: np.ndarray, table: pa.Table, rows: np.ndarray) -> Any:
        with_ids = table.append_column(f"{name}_id", pa.array(ids, pa.string()))
        counts = np.bincount(rows, minlength=len(ids))
        encoders = EntityEncoders.fit_with_ids(
            features(table), with_ids, id_name=f"{name}_id", counts=counts, config=config,
            folder=folder / name,
        )  # fmt: skip
        return encoders.encode(with_ids)

    events = EntityEncoders.fit(
        features(log.event_table), log.event_table, config=config, folder=folder / "event"
    )
    return Tables(
        users=entity("user", log.user_ids, log.user_table, log.user),
        items=entity("item", log.item_ids, log.item_table, log.item),
        context=events.encode(log.event_table),
    )


def make_searcher(log: EventLog, tables: Tables, folder: Path, *, seed: int) -> Searcher:
    """Return the first stage."""
    rows = np.arange(len(log))
    inputs = RetrieverInputs(
        users=tables.users, items=tables.items, context=tables.context.specs,
        user_id="user_id", item_id="item_id", trends=Trends.of(log, rows), has_times=True,
    )  # fmt: skip
    retriever, _ = fit_retriever(
        inputs,
        TrainingData(log, rows, tables.context, False),
        config=RetrievalConfig(),
        folder=folder,
        seed=seed,
        steps=STEPS,
    )
    return Searcher(retriever, log=log, context=tables.context, seen_rows=rows)


def make_scorer(
    log: EventLog,
    tables: Tables,
    searcher: Searcher,
    histories: Histories,
    folder: Path,
    *,
    seed: int,
) -> tuple[Scorer, RankingConfig]:
    """Return the second stage, trained on a few queries."""
    config = RankingConfig()
    rows = np.arange(len(log))
    some = np.sort(np.random.default_rng(seed).choice(rows, _RANKED_QUERIES, replace=False))
    asked = queries(log, some, repeats=False)
    table = sample_candidates(
        searcher, asked, seen=histories.seen(asked.row), available=log.first_seen,
        retrieved=config.candidates, negatives=config.negatives,
        random_share=config.random_share, seed=seed,
    )  # fmt: skip
    labels = {task: label.value for task, label in log.labels.items()}
    known = statistics(log, rows, labels)
    shown = Queries(some, log.user[some], log.time[some], log.item[some])
    scores = searcher.score(shown, shown.item[:, np.newaxis])[:, 0]
    tasks = {
        "retrieval": TaskConfig(),
        "rating": TaskConfig(kind="regression", column="rating"),
        "purchase": TaskConfig(kind="binary", column="purchase"),
    }
    inputs = RankerInputs(
        tables.users, tables.items, tables.context.specs, "item_id", "user_id", tasks,
        known.label_mean, known.label_std,
    )  # fmt: skip
    exposures = Exposures(shown, scores, {task: value[some] for task, value in labels.items()})
    past = Past(known, neighbours(log, rows, width=config.neighbours))
    ranker, _ = fit_ranker(
        inputs,
        Examples(table, exposures, past),
        validation=None,
        histories=histories,
        context=tables.context,
        config=config,
        folder=folder,
        seed=seed,
        steps=STEPS,
    )
    return Scorer(ranker, histories=histories, context=tables.context), config


def main() -> None:
    """Make a bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events-per-user", type=int, default=EVENTS_PER_USER)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    make_bundle(
        asked.folder,
        items=asked.items,
        users=asked.users,
        seed=asked.seed,
        console=Console(),
        events_per_user=asked.events_per_user,
    )


if __name__ == "__main__":
    main()
