"""Tiny worlds as the benchmarks of retrieval see them."""

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

pytest.importorskip("implicit", reason="needs the extra `benchmarks`")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A marketplace of 120 users and 240 items."""
    from benchmarks.retrieval.datasets import prepare

    return prepare("quick", tmp_path_factory.mktemp("tiny"), console=Console(quiet=True))


@pytest.fixture(scope="session")
def checkerboard():
    """60 users who choose the 10 items of their own colour, each in an order of their own.

    Only the last choice is asked for, so of the items left one is right and 10 are wrong.
    """
    from benchmarks.retrieval.problem import Problem
    from interactions.config import DataConfig, FeatureConfig, SplitConfig
    from interactions.log import EventLog
    from interactions.split import split
    from tandem.config import TandemConfig
    from tandem.data import Data

    users, each = 60, 10
    rng = np.random.default_rng(0)
    items = np.concatenate([2 * rng.permutation(each) + user % 2 for user in range(users)])
    everything = np.ones(users * each, bool)
    log = EventLog(
        user_ids=np.array([f"u{n}" for n in range(users)], object),
        item_ids=np.array([f"i{n}" for n in range(2 * each)], object),
        user=np.repeat(np.arange(users), each).astype(np.int32),
        item=items.astype(np.int32),
        time=np.tile(np.arange(each), users).astype(np.int64),
        chosen=everything,
        exposure=everything,
        labels={},
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({"title": [["black", "white"][n % 2] for n in range(2 * each)]}),
        has_times=True,
    )
    features = (FeatureConfig(name="title", kind="text"),)
    config = TandemConfig(data=DataConfig(events="generated", item_features=features))
    return Problem(Data(log, split(log, SplitConfig(kind="leave_last_out")), config))
