"""Popularity at a moment knows what came strictly before it, and no more."""

import dataclasses

import numpy as np
import pytest

from interactions import blocks
from retrieval.trends import HALF_LIVES, Trends

DAY = 86_400_000_000


def test_a_moments_counts_are_those_of_the_written_out_decay(log):
    trends = Trends.of(log, np.arange(len(log)))
    rng = np.random.default_rng(0)
    for time in rng.choice(log.time, 8):
        slot = trends.slot(np.array([time]))[0]
        moment = trends.start[slot]
        assert moment <= time
        for place, half_life in enumerate(HALF_LIVES):
            count = np.zeros(len(log.item_ids))
            for row in np.flatnonzero(log.chosen & (log.time < moment)):
                count[log.item[row]] += 0.5 ** ((moment - log.time[row]) / (half_life * DAY))
            np.testing.assert_allclose(trends.value[slot, place], np.log1p(count), atol=1e-4)


def test_what_comes_at_a_moment_or_later_changes_nothing_there(log):
    rows = np.arange(len(log))
    trends = Trends.of(log, rows)
    for time in (50 * DAY, 133 * DAY, 299 * DAY):
        item = log.item.copy()
        item[log.time >= time] = 0
        other = Trends.of(dataclasses.replace(log, item=item), rows)
        slot = trends.slot(np.array([time]))[0]
        assert slot == other.slot(np.array([time]))[0]
        np.testing.assert_array_equal(trends.value[: slot + 1], other.value[: slot + 1])
        assert (trends.value[-1] != other.value[-1]).any()


def test_the_last_slot_counts_everything_and_the_first_nothing(log):
    trends = Trends.of(log, np.arange(len(log)))
    assert (np.diff(trends.start) > 0).all()
    assert not trends.value[0].any()
    there = np.isin(np.arange(len(log.item_ids)), log.item[log.chosen])
    assert ((trends.value[-1] > 0) == there).all()
    assert trends.start[-1] > log.time[log.chosen].max()
    far = trends.slot(np.array([np.iinfo(np.int64).max, np.iinfo(np.int64).min]))
    assert far.tolist() == [len(trends.start) - 1, 0]


def test_what_was_not_chosen_or_not_counted_is_no_trend(log):
    rows = np.flatnonzero(log.item % 2 == 0)
    trends = Trends.of(log, rows)
    assert not trends.value[:, :, 1::2].any()
    nothing = dataclasses.replace(log, chosen=np.zeros(len(log), bool))
    assert not Trends.of(nothing, rows).value.any()


def test_without_times_every_row_counts_the_same(log):
    ordered = dataclasses.replace(log, has_times=False)
    trends = Trends.of(ordered, np.arange(len(log)))
    counts = np.bincount(log.item[log.chosen], minlength=len(log.item_ids))
    assert trends.value.shape == (1, len(HALF_LIVES), len(log.item_ids))
    np.testing.assert_allclose(trends.value[0, 0], np.log1p(counts), rtol=1e-6)
    assert trends.slot(np.array([0, 10**18])).tolist() == [0, 0]


def test_an_event_counts_half_after_its_half_life(log):
    time = np.sort(np.append(np.zeros(5, np.int64), np.full(5, 7 * DAY)))
    few = dataclasses.replace(
        log, user=np.zeros(10, np.int32), item=np.array([1] * 5 + [2] * 5, np.int32), time=time,
        chosen=np.ones(10, bool),
    )  # fmt: skip
    last = np.expm1(Trends.of(few, np.arange(10)).value[-1])
    assert last[0, 1] / last[0, 2] == pytest.approx(0.5, abs=1e-3)
    assert last[2, 1] / last[2, 2] > 0.9


def test_of_a_long_log_every_event_counts_though_slots_are_cut_by_some(log, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", len(log) // 12)
    trends = Trends.of(log)
    assert trends.start[0] == log.time[log.chosen].min()
    assert trends.start[-1] == log.time[log.chosen].max() + 1
    assert not trends.value[0].any()
    for slot in (1, len(trends.start) // 2, -1):
        for place, half_life in enumerate(HALF_LIVES):
            row = np.flatnonzero(log.chosen & (log.time < trends.start[slot]))
            weight = 0.5 ** ((trends.start[slot] - log.time[row]) / (half_life * DAY))
            count = np.bincount(log.item[row], weights=weight, minlength=len(log.item_ids))
            np.testing.assert_allclose(trends.value[slot, place], np.log1p(count), atol=1e-4)
