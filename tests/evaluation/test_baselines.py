import numpy as np
import pytest

from evaluation import baselines
from evaluation.baselines import DAY, Popularity, RecentPopularity, choose_days, top_k
from interactions.ragged import Ragged

ITEMS = 25


def slow_top_k(scores, k, time, seen, available_from):
    allowed = [
        item for item in range(len(scores)) if item not in seen and available_from[item] <= time
    ]
    best = sorted(allowed, key=lambda item: (-scores[item], item))[:k]
    return best + [-1] * (k - len(best))


@pytest.fixture
def world():
    random = np.random.default_rng(1)
    queries = 70
    return {
        "times": random.integers(0, 40, queries),
        "seen": [random.permutation(ITEMS)[: random.integers(0, 12)] for _ in range(queries)],
        "available_from": random.integers(0, 40, ITEMS),
        "scores": random.integers(0, 4, (queries, ITEMS)).astype(float),  # full of ties
    }


@pytest.mark.parametrize("k", [1, 5, ITEMS, ITEMS + 3])
@pytest.mark.parametrize("cells", [1, 100, 1_000_000])
def test_top_k_equals_a_sort(world, k, cells, monkeypatch):
    monkeypatch.setattr(baselines, "CELLS", cells)  # chunks of one query, of a few, of all
    ranked = top_k(
        lambda queries: world["scores"][queries],
        k=k,
        times=world["times"],
        seen=Ragged.of(world["seen"]),
        available_from=world["available_from"],
    )
    for query, row in enumerate(ranked.tolist()):
        assert row == slow_top_k(
            world["scores"][query],
            k,
            world["times"][query],
            world["seen"][query],
            world["available_from"],
        )


def test_top_k_takes_one_score_per_item_for_all(world):
    one, times = world["scores"][0], world["times"]
    ranked = top_k(one, k=4, times=times)
    assert ranked.dtype == np.int32
    assert (ranked == slow_top_k(one, 4, 0, (), np.zeros(ITEMS))).all()
    assert one.dtype == float and np.isfinite(one).all()  # what was given stays as it was


def test_an_item_may_be_shown_from_its_first_moment_and_not_before():
    ranked = top_k(
        np.array([1.0, 9.0]), k=2, times=np.array([4, 5]), available_from=np.array([0, 5])
    )
    assert ranked.tolist() == [[0, -1], [1, 0]]


def test_scorers_are_asked_in_order_of_time(monkeypatch):
    monkeypatch.setattr(baselines, "CELLS", 4)
    times, asked = np.array([5, 1, 3, 2, 4]), []

    def scorer(queries):
        asked.extend(times[queries].tolist())
        return np.tile([0.0, 1.0], (len(queries), 1))

    top_k(scorer, k=1, times=times)
    assert asked == [1, 2, 3, 4, 5]


def test_top_k_of_nothing():
    assert top_k(np.ones(3), k=2, times=np.empty(0, np.int64)).shape == (0, 2)
    none_yet = top_k(np.ones(3), k=2, times=np.array([0]), available_from=np.array([9, 9, 9]))
    assert none_yet.tolist() == [[-1, -1]]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="NaN"):
        top_k(np.array([1.0, np.nan]), k=1, times=np.zeros(1, int))
    for item in (-1, 2):
        with pytest.raises(ValueError, match="outside the catalogue of 2"):
            top_k(np.ones(2), k=1, times=np.zeros(1, int), seen=Ragged.of([[item]]))
    with pytest.raises(ValueError, match="k=0"):
        top_k(np.ones(2), k=0, times=np.zeros(1, int))
    with pytest.raises(ValueError, match="sort the queries"):
        RecentPopularity.of(np.array([0]), np.array([1]), catalogue=1, days=1).counts_at(
            np.array([2, 1])
        )


def test_popularity_counts_training_events():
    model = Popularity.of(np.array([2, 2, 0, 2, 1, 1]), catalogue=4)
    assert model.top_k(np.zeros(1, int), k=4).tolist() == [[2, 1, 0, 3]]
    seen = Ragged.of([[2]])
    assert model.top_k(np.zeros(1, int), k=2, seen=seen).tolist() == [[1, 0]]


def test_latest_popularity_counts_the_last_events_by_order():
    items, order = np.array([1, 1, 1, 0, 2, 2]), np.array([1, 2, 3, 9, 8, 0])
    model = Popularity.of_latest(items, order, catalogue=3, share=1 / 3)
    assert model.counts.tolist() == [1, 0, 1]
    assert Popularity.of_latest(items, order, catalogue=3).counts.sum() == 1


def recent_world(seed: int):
    random = np.random.default_rng(seed)
    items = random.integers(0, ITEMS, 400)
    # Whole days, so that many events stand exactly on a window's edges.
    times = random.integers(0, 60, 400) * DAY
    return items, times, random.integers(0, 65, 90) * DAY


@pytest.mark.parametrize("days", [1, 7, 30])
def test_recent_counts_equal_a_count_per_query(days):
    items, times, asked = recent_world(days)
    asked = np.sort(asked)
    model = RecentPopularity.of(items, times, catalogue=ITEMS, days=days)
    counts = model.counts_at(asked)
    for row, time in zip(counts, asked, strict=True):
        inside = (times < time) & (times >= time - days * DAY)
        assert row.tolist() == np.bincount(items[inside], minlength=ITEMS).tolist()


@pytest.mark.parametrize("cells", [1, 200, 1_000_000])
def test_recent_lists_do_not_depend_on_chunks_or_order(cells, monkeypatch):
    items, times, asked = recent_world(3)
    monkeypatch.setattr(baselines, "CELLS", cells)
    ranked = RecentPopularity.of(items, times, catalogue=ITEMS, days=7).top_k(asked, k=5)
    for query, time in enumerate(asked):
        inside = (times < time) & (times >= time - 7 * DAY)
        scores = np.bincount(items[inside], minlength=ITEMS)
        assert ranked[query].tolist() == slow_top_k(scores, 5, 0, (), np.zeros(ITEMS))


def test_an_event_at_the_query_s_own_time_is_not_known_yet():
    model = RecentPopularity.of(np.array([1]), np.array([100]), catalogue=2, days=1)
    assert model.counts_at(np.array([100, 101])).tolist() == [[0, 0], [0, 1]]
    assert model.counts_at(np.empty(0, np.int64)).shape == (0, 2)


@pytest.mark.parametrize("ragged", [False, True])
def test_the_window_is_the_one_that_ranks_best(ragged):
    # The fashion is one item per day, and yesterday's item is what is chosen tomorrow morning.
    random = np.random.default_rng(0)
    day = np.repeat(np.arange(100), 20)
    fashion = random.permutation(100)
    items, event_times = fashion[day], day * DAY + random.integers(0, DAY, len(day))
    query_days = np.arange(20, 100)
    queries, relevant = query_days * DAY, fashion[query_days - 1]
    wanted = Ragged.of([[item] for item in relevant]) if ragged else relevant
    choice = choose_days(items, event_times, catalogue=100, times=queries, relevant=wanted)
    assert choice.days == 1
    assert choice.ndcg[1] > 0.99
    assert choice.ndcg[90] < 0.5
    assert list(choice.ndcg) == [1, 7, 30, 90]


def test_the_window_is_chosen_without_seen_and_future_items():
    items, event_times = np.array([0] * 5 + [1] * 3 + [2]), np.arange(9)
    choice = choose_days(
        items,
        event_times,
        catalogue=3,
        times=np.array([50]),
        relevant=np.array([2]),
        seen=Ragged.of([[0]]),
        available_from=np.array([0, 60, 0]),
        days=(1,),
    )
    assert choice.ndcg[1] == 1.0
    with pytest.raises(ValueError, match="no validation queries"):
        choose_days(items, event_times, catalogue=3, times=np.empty(0), relevant=np.empty(0))
