"""A world with a known truth: two groups of users and items, one item withheld of every user.

Users choose every item of their own group and none of the other's. With what was seen removed,
the withheld item is the only right answer, and whoever learns anything finds it.
"""

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from evaluation.metrics import hits, ndcg_at
from interactions.config import SplitConfig
from interactions.log import EventLog, Labels
from interactions.split import TEST, split
from ranking.scoring import reorder
from tandem.config import TandemConfig
from tandem.data import Data
from tandem.resources import Resources
from tandem.system import candidates_of, load_system, train_system

USERS, GROUP = 60, 10
"""Users, and items of each group."""


def checkerboard():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), GROUP).astype(np.int32)
    order = np.concatenate([rng.permutation(GROUP) for _ in range(USERS)])
    return EventLog(
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        item_ids=np.array([f"i{n}" for n in range(2 * GROUP)], object),
        user=user,
        item=(2 * order + user % 2).astype(np.int32),
        time=np.tile(np.arange(GROUP), USERS).astype(np.int64),
        chosen=np.ones(USERS * GROUP, bool),
        exposure=np.ones(USERS * GROUP, bool),
        labels={
            "purchase": Labels((order % 2 == 0).astype(np.float32), np.zeros(USERS * GROUP, int))
        },
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TandemConfig.model_validate(
        {
            "data": {"events": "none.csv", "timestamp": None},
            "tasks": {
                "retrieval": {"weight": 1.0},
                "purchase": {"weight": 0.5, "kind": "binary", "column": "purchase"},
            },
            "split": {"kind": "leave_last_out", "ranking_events": 2},
            "retrieval": {
                "embedding_dim": 8, "hidden_dim": 8, "batch_events": 100,
                "schedule": {"learning_rate": 0.02, "max_epochs": 15},
            },
            "ranking": {
                "candidates": 8, "negatives": 6, "embedding_dim": 8, "tower_dims": [16],
                "batch_queries": 20, "schedule": {"learning_rate": 0.01, "max_epochs": 15},
            },
            "export": {"max_k": 8},
        }
    )  # fmt: skip
    log = checkerboard()
    data = Data(log, split(log, SplitConfig(kind="leave_last_out", ranking_events=2)), config)
    folder = tmp_path_factory.mktemp("checkerboard")
    console = Console(quiet=True)
    return train_system(data, folder=folder, resources=Resources(console), console=console), folder


def ndcg(ranked, queries):
    found = hits(ranked, queries.item)
    return float(ndcg_at(found, np.ones(len(ranked), np.int64), 5).mean())


def test_the_retriever_finds_the_withheld_item(trained):
    system, _ = trained
    queries = system.data.queries(TEST)
    assert len(queries) == USERS
    table = candidates_of(system.data, system.searcher, queries)
    assert ndcg(table.item, queries) > 0.95


def test_the_ranker_puts_it_first_whatever_order_it_is_given(trained):
    system, _ = trained
    queries = system.data.queries(TEST)
    table = candidates_of(system.data, system.searcher, queries)
    turned = table.item[:, ::-1].copy()
    predictions = system.scorer.predict(queries, turned, table.retrieval_score[:, ::-1].copy())
    assert ndcg(reorder(turned, system.order.score(predictions).numpy()), queries) > 0.95


def test_by_popularity_nobody_finds_it(trained):
    """Every item is chosen alike, so the world is only solved by who chose what."""
    system, _ = trained
    queries = system.data.queries(TEST)
    seen = system.data.seen(queries)
    counts = np.bincount(system.data.log.item, minlength=2 * GROUP)
    assert len(set(counts.tolist())) == 1
    unseen = 2 * GROUP - np.diff(seen.offsets)
    assert (unseen == GROUP + 1).all()


def test_found_again_in_its_folder_the_system_answers_the_same(trained):
    system, folder = trained
    queries = system.data.queries(TEST)
    again = load_system(system.data, folder=folder)
    mine = candidates_of(system.data, system.searcher, queries)
    theirs = candidates_of(again.data, again.searcher, queries)
    np.testing.assert_array_equal(mine.item, theirs.item)
    np.testing.assert_allclose(mine.retrieval_score, theirs.retrieval_score, atol=1e-5)
    one = system.scorer.predict(queries, mine.item, mine.retrieval_score)
    other = again.scorer.predict(queries, mine.item, mine.retrieval_score)
    for task, values in one.items():
        np.testing.assert_allclose(values, other[task], atol=1e-5)
    assert again.order.weights == system.order.weights
