import numpy as np

from interactions.histories import PAD, Histories

ROWS = [
    (0, 3, 1), (0, 4, 2), (0, 3, 2), (0, 5, 4),
    (2, 1, 1), (2, 1, 3),
]  # fmt: skip


def pieces(ragged):
    return [part.tolist() for part in np.split(ragged.items, ragged.offsets[1:-1])]


def test_a_history_is_the_latest_strictly_before_oldest_first(make_log):
    histories = Histories.of(make_log(ROWS))
    users, times = np.array([0, 0, 0, 0, 1, 2, -1]), np.array([1, 2, 4, 99, 9, 3, 9])
    history = histories.before(users, times, length=3)
    assert history.items.tolist() == [
        [PAD, PAD, PAD],
        [3, PAD, PAD],  # the basket at time 2 does not explain itself
        [3, 4, 3],
        [4, 3, 5],  # the latest three
        [PAD, PAD, PAD],
        [1, PAD, PAD],
        [PAD, PAD, PAD],
    ]
    assert history.count.tolist() == [0, 1, 3, 3, 0, 1, 0]
    assert history.times[3].tolist() == [2, 2, 4]
    assert (history.items.dtype, history.times.dtype) == (np.int32, np.int64)


def test_only_chosen_rows_and_only_those_asked_for_are_history(make_log):
    log = make_log(ROWS, chosen=[1, 0, 1, 1, 1, 1])
    assert Histories.of(log).before(np.array([0]), np.array([9]), length=5).items.tolist() == [
        [3, 3, 5, PAD, PAD]
    ]
    early = Histories.of(log, among=np.flatnonzero(log.time < 2))
    assert early.before(np.array([0]), np.array([9]), length=2).items.tolist() == [[3, PAD]]
    nothing = Histories.of(log, among=np.empty(0, np.int64))
    assert nothing.before(np.array([0]), np.array([9]), length=2).items.tolist() == [[PAD, PAD]]
    assert pieces(nothing.seen_at(np.array([0]), np.array([9]))) == [[]]


def test_seen_goes_by_the_total_order_and_names_no_item_twice(make_log):
    histories = Histories.of(make_log(ROWS))
    assert pieces(histories.seen(np.arange(6))) == [[], [3], [3, 4], [3, 4], [], [1]]
    assert pieces(histories.seen(np.array([5, 2]))) == [[1], [3, 4]]
    at = histories.seen_at(np.array([0, 0, 1, 2, -1]), np.array([2, 9, 9, 9, 9]))
    assert pieces(at) == [[3], [3, 4, 5], [], [1], []]


def test_seen_before_a_row_that_was_not_chosen(make_log):
    histories = Histories.of(make_log(ROWS, chosen=[1, 0, 1, 0, 0, 1]))
    assert pieces(histories.seen(np.arange(6))) == [[], [3], [3], [3], [], []]


def test_sequences_say_where_their_ties_begin(make_log):
    histories = Histories.of(make_log(ROWS))
    assert histories.offsets.tolist() == [0, 4, 4, 6]
    assert histories.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert histories.tie_start.tolist() == [0, 1, 1, 3, 4, 5]


def test_a_log_without_any_choice_has_empty_histories(make_log):
    histories = Histories.of(make_log(ROWS, chosen=[0] * 6))
    assert histories.before(np.array([0]), np.array([9]), length=2).count.tolist() == [0]
    assert pieces(histories.seen(np.array([3]))) == [[]]
