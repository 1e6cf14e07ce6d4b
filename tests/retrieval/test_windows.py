"""Every event in one window of each epoch, and every history strictly before its target."""

import numpy as np
import pytest

from interactions.queries import first_choices
from retrieval.windows import (
    BatchMaker,
    Sequences,
    cut_windows,
    length_classes,
    windows_per_batch,
)


@pytest.fixture(scope="module")
def rows(log):
    """Two rows of three, and none of some users."""
    kept = np.arange(len(log)) % 3 > 0
    return np.flatnonzero(kept & (log.user % 9 != 4))


@pytest.mark.parametrize("length", [1, 2, 5, 16, 1000])
def test_each_chosen_event_of_the_rows_is_in_exactly_one_window(log, rows, length):
    sequences = Sequences.of(log, rows)
    windows = cut_windows(sequences, length=length, rng=np.random.default_rng(0))
    places = np.concatenate(
        [np.arange(a, b) for a, b in zip(windows.start, windows.stop, strict=True)]
    )
    assert sorted(sequences.row[places]) == sorted(rows[log.chosen[rows]])
    assert (windows.length >= 1).all() and (windows.length <= length).all()
    for end in (windows.start, windows.stop - 1):
        assert (log.user[sequences.row[end]] == windows.user).all()


def test_a_long_sequence_is_cut_at_other_places_in_each_epoch(log, rows):
    sequences = Sequences.of(log, rows)
    cuts = [
        tuple(cut_windows(sequences, length=10, rng=np.random.default_rng(seed)).start)
        for seed in (1, 1, 2)
    ]
    assert cuts[0] == cuts[1] != cuts[2]


def test_a_sequence_that_fits_is_never_cut(log, rows):
    sequences = Sequences.of(log, rows)
    windows = cut_windows(sequences, length=1000, rng=np.random.default_rng(0))
    assert len(windows) == len(np.unique(log.user[rows[log.chosen[rows]]]))


def test_no_rows_make_no_windows(log):
    sequences = Sequences.of(log, np.zeros(0, np.int64))
    assert len(cut_windows(sequences, length=5, rng=np.random.default_rng(0))) == 0


def test_classes_hold_every_window_once_and_similar_lengths(log, rows):
    windows = cut_windows(Sequences.of(log, rows), length=40, rng=np.random.default_rng(0))
    classes = length_classes(windows, length=40)
    assert sorted(np.concatenate(classes)) == list(range(len(windows)))
    assert len(classes) > 1
    for group in classes[1:]:
        assert windows.length[group].max() <= 2 * windows.length[group].min()
        assert 1 <= windows_per_batch(windows, group, events=64) <= len(group)


@pytest.mark.parametrize("length", [4, 30])
def test_a_history_is_what_the_user_chose_strictly_before_within_the_window(log, rows, length):
    sequences = Sequences.of(log, rows)
    maker = BatchMaker(log, sequences, np.ones(len(log), bool))
    rng = np.random.default_rng(0)
    windows = cut_windows(sequences, length=length, rng=rng)
    batch = maker.gather(windows, rng)
    inside = np.zeros(len(log), bool)
    inside[rows] = True
    inside &= log.chosen
    width = batch["sequence"].shape[1] + 1
    assert len(batch["row"]) == inside.sum()
    for query, row in enumerate(batch["row"]):
        window, before = divmod(int(batch["state"][query]), width)
        assert window == batch["window"][query]
        history = batch["sequence"][window, :before]
        own = inside & (log.user == log.user[row])
        earlier = np.flatnonzero(own & (log.time < log.time[row]))
        # no further back than the window
        first = sequences.row[windows.start[window]]
        earlier = earlier[earlier >= first]
        assert history.tolist() == log.item[earlier].tolist()
        assert batch["known"][query] == (before > 0)
        if before:
            assert batch["previous"][query] == log.time[earlier[-1]]
            assert (batch["sequence_time"][window, :before] == log.time[earlier]).all()


def test_only_what_may_be_a_target_is_one_but_all_is_history(log, rows):
    targets = first_choices(log)
    sequences = Sequences.of(log, rows)
    rng = np.random.default_rng(0)
    windows = cut_windows(sequences, length=10, rng=rng)
    batch = BatchMaker(log, sequences, targets).gather(windows, rng)
    assert targets[batch["row"]].all()
    assert 0 < len(batch["row"]) < log.chosen[rows].sum()
    assert ((batch["context_row"] == batch["row"]) | (batch["context_row"] == -1)).all()
    assert (batch["context_row"] == -1).any()
