"""Chances to be drawn, against simulations of epochs that deal whole windows out."""

import time

import numpy as np
import pytest
from pydantic import ValidationError

from retrieval.negative_sources import BatchTargets
from retrieval.negatives import Negatives
from retrieval.negatives_config import NegativesConfig
from retrieval.occurrence import StreamingFrequency

ITEMS, WINDOWS, BATCH = 60, 30, 5
NOTHING = {"full_up_to": 0, "in_batch": False, "uniform": 0}
FORMS = {
    "in-batch": {"in_batch": True},
    "uniform": {"uniform": 12},
    "popular": {"popular": 15, "uniform": 4},
    "kept": {"in_batch": True, "kept_batches": 3},
    "hard": {"in_batch": True, "hard": 3},
    "hard alone": {"hard": 3, "uniform": 4},
    "mixture": {"in_batch": True, "uniform": 6, "popular": 6, "kept_batches": 1, "hard": 2},
}


class World:
    """Windows with few targets each, some items a target in many of them."""

    def __init__(self, *, seed=0, hard=0):
        rng = np.random.default_rng(seed)
        weight = rng.random(ITEMS - 3) ** 3
        weight = np.append(weight, np.zeros(3)) / weight.sum()  # three are never a target
        self.targets = [
            rng.choice(ITEMS, rng.integers(1, 7), replace=False, p=weight) for _ in range(WINDOWS)
        ]
        self.count = np.bincount(np.concatenate(self.targets), minlength=ITEMS)
        self.hard = np.full((WINDOWS, max(hard, 1)), -1, np.int32)
        for window, targets in enumerate(self.targets if hard else []):
            others = np.setdiff1d(np.arange(ITEMS), targets)
            self.hard[window, : hard - window % 2] = rng.choice(
                others, hard - window % 2, replace=False
            )

    def negatives(self, **config):
        negatives = Negatives.of(
            NegativesConfig(**NOTHING | config),
            catalogue=np.arange(ITEMS, dtype=np.int32),
            windows_with_item=self.count,
            windows=WINDOWS,
            batch_windows=BATCH,
            seed=0,
        )
        if negatives.wants_hard:
            negatives.mine(self.hard)
        return negatives

    def batch(self, index):
        return BatchTargets(
            targets=np.concatenate([self.targets[one] for one in index]).astype(np.int32),
            window=np.repeat(np.arange(len(index)), [len(self.targets[one]) for one in index]),
            index=index,
        )

    def epochs(self, config, *, number, seed=1, remove=None, size=BATCH):
        """Yield the step, the batch and what was drawn."""
        for epoch in range(number):
            rng = np.random.default_rng([seed, epoch])
            order, negatives = rng.permutation(WINDOWS), self.negatives(**config)
            for step, at in enumerate(range(0, WINDOWS, size)):
                batch = self.batch(order[at : at + size])
                removed = None if remove is None else remove[batch.index]
                yield step, batch, negatives.draw(batch, rng, remove=removed)


def rows_of(drawn, windows):
    return np.broadcast_to(drawn.correction, (windows, len(drawn.items)))


def reachable(world, config):
    """[items] bool: items that some source can bring."""
    if config.get("uniform"):
        return np.ones(ITEMS, bool)
    mined = world.hard[world.hard >= 0] if config.get("hard") else world.hard[:0]
    return (world.count > 0) | np.isin(np.arange(ITEMS), mined)


@pytest.mark.parametrize("size", [BATCH, 8], ids=["even", "uneven"])
@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_the_weights_add_up_to_the_whole_catalogue(config, size):
    """Averaged over the batches that have a window, its corrected sum of any scores is the full
    one, so each item's weight is 1 on average, whatever sources it comes from.

    Batches of 8 leave a smaller one at the end of the epoch.
    """
    world = World(hard=config.get("hard", 0))
    there = reachable(world, config)
    score = np.exp(np.random.default_rng(2).normal(size=ITEMS))
    sums = [[] for _ in range(WINDOWS)]
    weights = np.zeros(ITEMS)
    for _, batch, drawn in world.epochs(config, number=1000, size=size):
        weight = np.exp(rows_of(drawn, len(batch.index)))
        weights[drawn.items] += weight.sum(axis=0)
        for place, window in enumerate(batch.index):
            sums[window].append(weight[place] @ score[drawn.items])
    full = score[there].sum()
    for drawn in map(np.array, sums):
        # no noise at all, but for single precision, where a window brings everything
        assert abs(drawn.mean() - full) < 4.5 * drawn.std() / np.sqrt(len(drawn)) + 1e-5 * full
    assert np.mean([np.mean(drawn) for drawn in sums]) == pytest.approx(full, rel=0.01)
    mean = weights / sum(map(len, sums))
    np.testing.assert_allclose(mean[there], 1.0, atol=0.15)
    assert not mean[~there].any()


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_the_stated_probability_is_how_often_an_item_comes(config):
    """For windows that do not bring it themselves."""
    world = World(hard=config.get("hard", 0))
    came, stated, of = np.zeros(ITEMS), np.zeros(ITEMS), np.zeros(ITEMS)
    for step, batch, drawn in world.epochs(config, number=600):
        if step < config.get("kept_batches", 0):
            continue  # the first steps of an epoch have fewer batches behind them
        own = np.zeros((BATCH, ITEMS), bool)
        if config.get("in_batch"):
            own[batch.window, batch.targets] = True
        if config.get("hard"):
            place, column = np.nonzero(world.hard[batch.index] >= 0)
            own[place, world.hard[batch.index][place, column]] = True
        counts = np.zeros((BATCH, ITEMS), bool)
        counts[:, drawn.items] = rows_of(drawn, BATCH) > -1e6
        came += (counts & ~own).sum(axis=0)
        of += (~own).sum(axis=0)
        stated[drawn.items] = np.exp(drawn.log_probability)
    often = came / of
    there = reachable(world, config)
    # the windows of a batch share their draw
    error = np.sqrt(stated * (1 - stated) / (of / BATCH)) + 1e-6
    assert (np.abs(stated - often)[there] < 4.5 * error[there]).all()
    assert not often[~there].any()


def test_the_catalogue_is_taken_whole_where_it_is_small():
    world = World()
    for config in ({"full_up_to": ITEMS}, {"uniform": ITEMS}, {"uniform": 40, "popular": 9999}):
        negatives = world.negatives(**config)
        drawn = negatives.draw(world.batch(np.array([3, 4])), np.random.default_rng(0))
        np.testing.assert_array_equal(drawn.items, np.arange(ITEMS))
        assert drawn.row is None and drawn.correction.shape == (1, ITEMS)
        assert not drawn.correction.any() and not drawn.positive_correction.any()


def test_targets_find_their_columns_and_removed_items_do_not_count():
    world = World(hard=2)
    remove = np.full((WINDOWS, 8), -1, np.int32)
    for window, targets in enumerate(world.targets):
        remove[window, : len(targets)] = targets
    for config in FORMS.values():
        for _, batch, drawn in world.epochs(config, number=2, remove=remove):
            assert (np.diff(drawn.items) > 0).all() and drawn.items.dtype == np.int32
            np.testing.assert_array_equal(drawn.items[drawn.positive], batch.targets)
            chance = np.exp(drawn.correction)
            for place, window in enumerate(batch.index):
                columns = np.isin(drawn.items, world.targets[window])
                assert not chance[place, columns].any()
            np.testing.assert_array_equal(drawn.row, batch.window)


def test_what_a_window_has_mined_is_there_for_certain_and_uncorrected():
    world = World(hard=3)
    for _, batch, drawn in world.epochs({"in_batch": True, "hard": 3}, number=2):
        for place, window in enumerate(batch.index):
            mined = world.hard[window][world.hard[window] >= 0]
            columns = np.searchsorted(drawn.items, mined)
            np.testing.assert_array_equal(drawn.items[columns], mined)
            assert not drawn.correction[place, columns].any()


def test_without_in_batch_negatives_a_target_is_no_other_querys_negative():
    world = World()
    for _, batch, drawn in world.epochs({"uniform": 1}, number=2):
        counted = drawn.items[np.exp(drawn.correction[0]) > 0]
        assert len(counted) == 1 and len(drawn.items) >= len(np.unique(batch.targets))


def test_mined_items_outside_the_catalogue_are_left_out():
    negatives = Negatives.of(
        NegativesConfig(**NOTHING | {"hard": 2, "uniform": 1}),
        catalogue=np.array([2, 5, 9], np.int32),
        windows_with_item=np.array([0, 0, 1, 0, 0, 1, 0, 0, 0, 1]),
        windows=2,
        batch_windows=2,
        seed=0,
    )
    negatives.mine(np.array([[5, 4], [99, -1]], np.int32))
    batch = BatchTargets(np.array([2, 9], np.int32), np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_array_equal(negatives.draw(batch, np.random.default_rng(0)).items, [2, 5, 9])


def test_kept_targets_come_back_and_the_oldest_go():
    world = World()
    earlier = []
    for step, batch, drawn in world.epochs({"in_batch": True, "kept_batches": 2}, number=2):
        earlier = [] if step == 0 else earlier[-2:]
        wanted = np.unique(np.concatenate([*earlier, batch.targets]))
        np.testing.assert_array_equal(drawn.items, wanted)
        earlier.append(batch.targets)


def test_a_batch_of_one_window_has_no_others_to_learn_from():
    negatives = Negatives.of(
        NegativesConfig(**NOTHING | {"in_batch": True}),
        catalogue=np.arange(4, dtype=np.int32),
        windows_with_item=np.array([1, 1, 0, 0]),
        windows=1,
        batch_windows=1,
        seed=0,
    )
    batch = BatchTargets(np.array([0, 1], np.int32), np.zeros(2, np.int32), np.array([0]))
    drawn = negatives.draw(batch, np.random.default_rng(0), remove=np.array([[0, 1, -1]]))
    assert not np.exp(drawn.correction).any() and np.isfinite(drawn.correction).all()


def test_streaming_estimates_agree_with_counts():
    rng = np.random.default_rng(0)
    chance = np.concatenate([np.linspace(0.02, 1.0, 40), np.zeros(10)])
    frequency = StreamingFrequency(places=4096, batch_windows=1, rng=rng)
    for _ in range(4000):
        frequency.observe(np.flatnonzero(rng.random(50) < chance).astype(np.int32))
    found = frequency.probability(np.arange(50))
    np.testing.assert_allclose(found[:40], chance[:40], rtol=0.4)
    assert np.corrcoef(found, chance)[0, 1] > 0.98
    assert not found[40:].any() and found[39] == pytest.approx(1.0)


def test_streaming_follows_a_change():
    frequency = StreamingFrequency(
        places=64, batch_windows=1, rng=np.random.default_rng(0), rate=0.05
    )
    for step in range(1, 2001):
        every = 10 if step <= 1000 else 2
        frequency.observe(np.array([7] if step % every == 0 else [], np.int32))
        if step == 1000:
            assert frequency.probability(np.array([7]))[0] == pytest.approx(0.1)
    assert frequency.probability(np.array([7]))[0] == pytest.approx(0.5, rel=0.02)


def test_streaming_needs_no_counts_and_comes_near_them():
    world = World()
    counted = world.negatives(in_batch=True)
    streaming = Negatives.of(
        NegativesConfig(**NOTHING | {"in_batch": True, "frequency": "streaming"}),
        catalogue=np.arange(ITEMS, dtype=np.int32),
        windows_with_item=None,
        windows=WINDOWS,
        batch_windows=BATCH,
        seed=0,
    )
    log = {}
    for name, negatives in (("counted", counted), ("streaming", streaming)):
        log[name] = np.full(ITEMS, np.nan)
        rng = np.random.default_rng(3)
        for _ in range(3000):
            batch = world.batch(rng.choice(WINDOWS, BATCH, replace=False))
            drawn = negatives.draw(batch, rng)
            log[name][drawn.items] = drawn.log_probability
    often = world.count >= 3
    assert np.corrcoef(log["counted"][often], log["streaming"][often])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"in_batch": False, "uniform": 0, "full_up_to": 0}, "no source"),
        ({"in_batch": False, "kept_batches": 2}, "kept_batches is 2"),
        ({"popular": 5, "frequency": "streaming"}, "popular is 5"),
        ({"uniform": -1}, "greater than or equal to 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, word):
    with pytest.raises(ValidationError, match=word):
        NegativesConfig(**config)


def test_hard_negatives_that_nobody_asked_for_are_refused():
    negatives = World().negatives(in_batch=True)
    assert not negatives.wants_hard
    with pytest.raises(ValueError, match=r"negatives\.hard"):
        negatives.mine(np.zeros((WINDOWS, 1), np.int32))


@pytest.mark.slow
def test_the_time_of_a_draw_does_not_grow_with_the_catalogue():
    def seconds(items):
        rng = np.random.default_rng(0)
        negatives = Negatives.of(
            NegativesConfig(full_up_to=0, uniform=1024, popular=1024),
            catalogue=np.arange(items, dtype=np.int32),
            windows_with_item=rng.integers(1, 9, items),
            windows=items,
            batch_windows=64,
            seed=0,
        )
        taken = []
        for _ in range(15):
            batch = BatchTargets(
                rng.integers(0, items, 2048).astype(np.int32),
                np.repeat(np.arange(64), 32),
                rng.choice(items, 64, replace=False),
            )
            begin = time.perf_counter()
            negatives.draw(batch, rng)
            taken.append(time.perf_counter() - begin)
        return np.median(taken)

    assert seconds(2_000_000) < 4 * seconds(20_000)
