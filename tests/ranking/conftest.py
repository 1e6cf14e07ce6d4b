"""A few random users, items, candidate lists and exposures for rankers of any tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

USERS, ITEMS, ROWS, WIDTH = 30, 20, 400, 8


@dataclass(frozen=True)
class World:
    log: Any
    histories: Any
    inputs: Any
    context: Any
    examples: Any

    def with_tasks(self, tasks: Any) -> World:
        return replace(self, inputs=replace(self.inputs, tasks=tasks))

    def with_labels(self, labels: Any) -> World:
        exposures = replace(self.examples.exposures, labels=labels)
        return replace(self, examples=replace(self.examples, exposures=exposures))

    def fit(self, folder: Path, *, ranking: Any = None, **given: Any) -> Any:
        """Train a small ranker, with these changes to its config."""
        from ranking.config import RankingConfig
        from ranking.training import fit_ranker
        from training.config import ScheduleConfig

        config = RankingConfig(
            embedding_dim=4, feature_dim=2, cross_rank=2, tower_dims=(4,),
            history=6, neighbours=3,
            batch_queries=100, schedule=ScheduleConfig(max_epochs=2, learning_rate=0.01),
        ).model_copy(update=ranking or {})  # fmt: skip
        given = {"validation": None, "steps": 6, "seed": 1} | given
        return fit_ranker(
            self.inputs, self.examples, histories=self.histories, context=self.context,
            config=config, folder=folder, **given,
        )  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Not to be changed."""
    from features.config import FeaturesConfig
    from features.entities import EntityEncoders
    from features.neighbours import neighbours
    from features.statistics import statistics
    from interactions.candidates import Candidates, Exposures
    from interactions.config import FeatureConfig, TaskConfig
    from interactions.histories import Histories
    from interactions.log import EventLog
    from interactions.queries import Queries
    from ranking.model import Past, RankerInputs
    from ranking.training import Examples

    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(0, USERS, ROWS)).astype(np.int32)
    log = EventLog(
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        item_ids=np.array([f"i{n}" for n in range(ITEMS)], object),
        user=user,
        item=rng.integers(0, ITEMS, ROWS).astype(np.int32),
        time=np.arange(ROWS, dtype=np.int64),
        chosen=np.ones(ROWS, bool),
        exposure=np.ones(ROWS, bool),
        labels={},
        event_table=pa.table({"device": rng.choice(["phone", "desk"], ROWS)}),
        user_table=pa.table({}),
        item_table=pa.table({"price": rng.random(ITEMS)}),
        has_times=True,
    )
    folder = tmp_path_factory.mktemp("ranking")

    def encoded(name: str, ids: np.ndarray, table: pa.Table, features: Any, seen: Any) -> Any:
        table = table.append_column(name, pa.array(ids, pa.string())) if table.num_columns else (
            pa.table({name: pa.array(ids, pa.string())})
        )  # fmt: skip
        return EntityEncoders.fit_with_ids(
            features, table, id_name=name, counts=np.bincount(seen, minlength=len(ids)),
            config=FeaturesConfig(), folder=folder / name,
        ).encode(table)  # fmt: skip

    price = [FeatureConfig(name="price", kind="numeric")]
    device = [FeatureConfig(name="device", kind="categorical")]
    context = EntityEncoders.fit(
        device, log.event_table, config=FeaturesConfig(), folder=folder / "context"
    ).encode(log.event_table)
    rows = np.arange(ROWS)
    labels = {
        "rating": rng.normal(3, 1, ROWS).astype(np.float32),
        "purchase": (rng.random(ROWS) < 0.4).astype(np.float32),
    }
    labels["rating"][::3] = np.nan
    known = statistics(log, rows, labels)
    asked = Queries(rows, log.user, log.time, log.item)
    others = np.stack([rng.permutation(ITEMS)[:WIDTH] for _ in rows]).astype(np.int32)
    others[:, 0] = np.where((others == log.item[:, None]).any(axis=1), others[:, 0], log.item)
    scores = rng.normal(size=others.shape).astype(np.float32)
    inputs = RankerInputs(
        encoded("user_id", log.user_ids, log.user_table, (), log.user),
        encoded("item_id", log.item_ids, log.item_table, price, log.item),
        context.specs, "item_id", "user_id",
        {
            "retrieval": TaskConfig(),
            "rating": TaskConfig(kind="regression", column="rating"),
            "purchase": TaskConfig(kind="binary", column="purchase"),
        },
        known.label_mean, known.label_std,
    )  # fmt: skip
    examples = Examples(
        Candidates(asked, others, scores, np.zeros_like(scores)),
        Exposures(asked, scores[:, 0], labels),
        Past(known, neighbours(log, rows, width=3)),
    )
    return World(log, Histories.of(log), inputs, context, examples)
