"""What a batch holds, and that an epoch can be made again."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from interactions import blocks
from interactions.blocks import Spill
from interactions.errors import UserError
from retrieval.batches import Batches
from retrieval.config import RetrievalConfig
from retrieval.trends import Trends

DAY = 86_400_000_000


def batches_of(log, rows, *, repeats=False, **negatives):
    from retrieval.negatives_config import NegativesConfig

    config = RetrievalConfig(
        history=10,
        batch_events=300,
        negatives=NegativesConfig(**({"full_up_to": 0, "uniform": 20} | negatives)),
    )
    return Batches(log, rows, config=config, repeats=repeats, seed=3)


@pytest.fixture(scope="module")
def rows(log):
    return np.flatnonzero(np.arange(len(log)) % 3 > 0)


def test_a_batch_holds_its_items_once_and_points_at_them(log, rows):
    for batch in batches_of(log, rows).epoch(1):
        assert len(np.unique(batch["items"])) == len(batch["items"])
        candidates = batch["items"][batch["candidates"]]
        assert len(np.unique(candidates)) == len(candidates)
        assert (candidates[batch["positive"]] == log.item[batch["row"]]).all()
        assert set(candidates) <= set(log.item[rows])
        assert (log.user[batch["row"]] == batch["user"]).all()


def test_what_the_user_has_elsewhere_in_the_window_is_no_negative(log, rows):
    out = 0
    for batch in batches_of(log, rows).epoch(0):
        candidates = batch["items"][batch["candidates"]]
        for window in np.unique(batch["window"]):
            mine = log.item[batch["row"][batch["window"] == window]]
            row = batch["correction_row"][batch["window"] == window]
            assert (batch["correction"][row][:, np.isin(candidates, mine)] < -1e8).all()
            out += len(mine)
    assert out > 500


def test_where_items_repeat_they_stay_negatives(log, rows):
    batch = next(iter(batches_of(log, rows, repeats=True).epoch(0)))
    candidates = batch["items"][batch["candidates"]]
    other = log.item[batch["row"][batch["window"] == 0]][1:]
    row = batch["correction_row"][batch["window"] == 0]
    assert (batch["correction"][row][:, np.isin(candidates, other)] > -1e8).all()


def test_a_small_catalogue_is_scored_whole(log, rows):
    known = np.unique(log.item[rows])
    for batch in batches_of(log, rows, full_up_to=10_000).epoch(0):
        assert (batch["items"][batch["candidates"]] == known).all()
        kept = batch["correction"][batch["correction"] > -1e8]
        assert (kept == 0).all()


def test_an_epoch_is_the_same_each_time_and_another_is_not(log, rows):
    batches = batches_of(log, rows, kept_batches=2)
    one, again, other = (list(batches.epoch(number)) for number in (2, 2, 3))
    for first, second in zip(one, again, strict=True):
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
    rows_of = [np.concatenate([batch["row"] for batch in epoch]) for epoch in (one, other)]
    assert (rows_of[0] != rows_of[1]).any()
    assert sorted(rows_of[0]) == sorted(rows_of[1])
    assert len(one) == pytest.approx(batches.steps, abs=3)


def test_times_of_first_appearance_are_those_of_the_training_rows(log, rows):
    batch = next(iter(batches_of(log, rows).epoch(0)))
    for item, first in zip(batch["items"][batch["candidates"]], batch["first_seen"], strict=True):
        assert first == log.time[rows][log.item[rows] == item].min()


def test_nothing_chosen_is_refused_by_name(log):
    with pytest.raises(UserError, match=r"data\.positive"):
        batches_of(log, np.flatnonzero(~log.chosen))


def test_mined_items_are_what_the_user_never_chose(world):
    from retrieval.mining import Miner
    from retrieval.windows import Sequences, cut_windows

    log, rows = world.log, world.early
    retriever = world.searcher.retriever
    sequences = Sequences.of(log, rows)
    windows = cut_windows(sequences, length=10, rng=np.random.default_rng(0))
    miner = Miner(
        retriever, sequences, log=log, rows=rows, context=world.searcher.context, number=5
    )
    mined = miner.mine(windows)
    assert mined.shape == (len(windows), 5) and (mined >= 0).mean() > 0.9
    for window, items in enumerate(mined):
        own = log.item[rows[(log.user[rows] == windows.user[window]) & log.chosen[rows]]]
        assert not set(items[items >= 0]) & set(own)
        assert len(set(items[items >= 0])) == (items >= 0).sum()


def test_mined_items_become_candidates(log, rows):
    class Chosen:
        def mine(self, windows):
            taken = np.full((len(windows), 2), -1, np.int32)
            taken[:, 0] = log.item[rows].max()
            return taken

    batches = batches_of(log, rows, uniform=0, hard=2)
    batches.mine_with(Chosen())
    for batch in batches.epoch(0):
        assert log.item[rows].max() in batch["items"][batch["candidates"]]


def test_targets_count_as_much_as_the_log_says(log, rows):
    assert all("weight" not in batch for batch in batches_of(log, rows).epoch(0))
    weight = np.random.default_rng(0).random(len(log)).astype(np.float32)
    for batch in batches_of(replace(log, weight=weight), rows).epoch(0):
        np.testing.assert_array_equal(batch["weight"], weight[batch["row"]])


def test_what_counts_twice_weighs_twice_in_the_loss(world, log):
    from features.backend import tf
    from retrieval.batches import LOSS_INPUTS

    batch = next(batches_of(log, world.early).epoch(0))
    tensors = {name: tf.constant(batch[name]) for name in LOSS_INPUTS if name in batch}
    tensors["slot"] = tf.zeros(len(batch["row"]), tf.int32)

    def loss(weight=None):
        given = {} if weight is None else {"weight": tf.constant(weight)}
        return float(world.searcher.retriever.loss(tensors | given, {}, tf.constant([0, 1])))

    some = (np.arange(len(batch["row"])) % 3 == 0).astype(np.float32)
    mine, others, both = loss(some), loss(1 - some), loss(1 + some)
    share = some.mean()
    assert loss() == pytest.approx(share * mine + (1 - share) * others, rel=1e-4)
    assert both == pytest.approx((2 * share * mine + (1 - share) * others) / (1 + share), rel=1e-4)
    assert abs(mine - others) > 1e-3


@pytest.mark.parametrize("repeats", [False, True])
def test_batches_are_the_same_where_the_log_is_worked_on_in_small_blocks(
    log, rows, repeats, monkeypatch
):
    whole = list(batches_of(log, rows, repeats=repeats, popular=5).epoch(1))
    monkeypatch.setattr(blocks, "BLOCK", 64)
    parted = list(batches_of(log, rows, repeats=repeats, popular=5).epoch(1))
    assert len(whole) == len(parted) > 5
    for one, other in zip(whole, parted, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_memory_does_not_grow_with_the_log(log, monkeypatch):
    """Everything as long as the log lies on disk; in memory there is less than a byte a row."""
    monkeypatch.setattr(blocks, "BLOCK", 20_000)
    users, each, items = 10_000, 100, len(log.item_ids)
    rng = np.random.default_rng(0)
    large = replace(
        log,
        user_ids=np.arange(users).astype(str).astype(object),
        user=np.repeat(np.arange(users, dtype=np.int32), each),
        item=rng.integers(0, items, users * each).astype(np.int32),
        time=np.tile(np.arange(each, dtype=np.int64) * DAY, users),
        chosen=np.ones(users * each, bool),
    )
    with Spill(np.int64) as spill:
        spill.append(np.arange(len(large)))
        rows = spill.array()
    config = RetrievalConfig(history=50)
    tracemalloc.start()
    try:
        trends = Trends.of(large, rows)
        batches = Batches(large, rows, config=config, repeats=False, seed=0)
        next(batches.epoch(0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert trends.value.any()
    # a few numbers per user and window are kept, and some arrays of a block's length
    assert peak < 12 * 2**20 < 16 * len(large)
