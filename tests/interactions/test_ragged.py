import numpy as np

from interactions.ragged import Ragged, entries_of, take


def test_entries_follow_the_order_asked_for():
    lists = Ragged.of([[5, 6], [], [7], [8, 9, 10]])
    entries = entries_of(lists, np.array([3, 1, 0]))
    assert entries.position.tolist() == [0, 0, 0, 2, 2]
    assert entries.item.tolist() == [8, 9, 10, 5, 6]


def test_take_keeps_only_some_lists():
    taken = take(Ragged.of([[5, 6], [], [7]]), np.array([2, 0, 2]))
    assert taken.offsets.tolist() == [0, 1, 3, 4]
    assert taken.items.tolist() == [7, 5, 6, 7]


def test_no_lists_and_empty_lists():
    assert Ragged.of([]).offsets.tolist() == [0]
    assert entries_of(Ragged.of([[], []]), np.array([0, 1])).item.size == 0
