import numpy as np

from interactions.split import TEST


def test_lists_hold_neither_seen_items_nor_items_of_the_future(tiny):
    queries = tiny.queries(TEST)
    rng = np.random.default_rng(0)
    ranked = tiny.rank(queries, lambda part: rng.normal(size=(len(part), tiny.items)))
    seen = tiny.data.seen(queries)
    first = tiny.data.log.first_seen
    for row, items in enumerate(ranked):
        shown = items[items >= 0]
        assert len(np.unique(shown)) == len(shown)
        assert not np.isin(shown, seen.items[seen.offsets[row] : seen.offsets[row + 1]]).any()
        assert (first[shown] <= queries.time[row]).all()


def test_without_scores_the_more_popular_item_comes_first(tiny):
    queries = tiny.queries(TEST)
    ranked = tiny.rank(queries, lambda part: np.zeros((len(part), tiny.items)))
    for items in ranked:
        assert (np.diff(tiny.popularity[items[items >= 0]]) <= 0).all()


def test_popularity_parts_ties_only(tiny):
    queries = tiny.queries(TEST)
    scores = np.zeros(tiny.items)
    scores[tiny.popularity.argmin()] = 1.0
    plain = tiny.rank(queries, lambda part: np.tile(scores, (len(part), 1)))
    shown = (plain == tiny.popularity.argmin()).any(axis=1)
    assert shown.any()
    assert (plain[shown, 0] == tiny.popularity.argmin()).all()


def test_a_profile_is_what_was_chosen_strictly_before_the_query(tiny):
    queries, log = tiny.queries(TEST), tiny.data.log
    profiles = tiny.profiles(queries).toarray()
    for row in range(len(queries)):
        before = (log.user == queries.user[row]) & log.chosen & (log.time < queries.time[row])
        np.testing.assert_array_equal(np.flatnonzero(profiles[row]), np.unique(log.item[before]))
        assert set(np.unique(profiles[row])) <= {0.0, 1.0}


def test_an_older_event_weighs_less(tiny):
    queries = tiny.queries(TEST)
    history = tiny.data.histories.before(queries.user, queries.time, length=50)
    row = int(history.count.argmax())
    items = history.items[row, : history.count[row]]
    weights = tiny.profiles(queries, half_life=2.0).toarray()[row]
    last = len(items) - 1
    once = [n for n, item in enumerate(items) if (items == item).sum() == 1]
    for place in once:
        np.testing.assert_allclose(weights[items[place]], 2.0 ** (-(last - place) / 2), rtol=1e-5)


def test_training_knows_nothing_of_validation_and_test(tiny):
    log, window = tiny.data.log, tiny.data.windows.window
    trained = {(u, i) for u, i in zip(*tiny.matrix.nonzero(), strict=True)}
    rows = np.flatnonzero(log.chosen & (window <= 1))
    assert trained == set(zip(log.user[rows].tolist(), log.item[rows].tolist(), strict=True))
