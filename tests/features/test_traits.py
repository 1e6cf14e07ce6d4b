import numpy as np
import pyarrow as pa

from features.traits import content_traits, meeting_traits
from interactions.config import FeatureConfig

ALL = np.ones(4, bool)


def features(**kinds):
    return [FeatureConfig(name=name, kind=kind) for name, kind in kinds.items()]


def test_a_category_has_a_column_for_each_value_the_most_frequent_first():
    table = pa.table({"brand": ["b", "a", "b", None]})
    found = content_traits(table, features(brand="categorical"), ALL)
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [1, 0], [0, 0]])


def test_several_values_share_a_length_of_one():
    table = pa.table({"genres": ["x| y", "y", "", "x|x"]})
    found = content_traits(table, features(genres="categories"), ALL)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1])
    np.testing.assert_allclose(found[0], np.sqrt(0.5))


def test_a_number_becomes_its_place_and_says_where_it_is_missing():
    table = pa.table({"price": [1.0, 1000.0, 10.0, None]})
    found = content_traits(table, features(price="numeric"), ALL)
    np.testing.assert_allclose(found, [[-1, 0], [1 / 3, 0], [-1 / 3, 0], [0, 1]], atol=1e-9)


def test_values_that_were_not_seen_get_no_column():
    table = pa.table({"brand": ["a", "b", "c", "a"], "price": [1.0, 2.0, 3.0, 4.0]})
    seen = np.array([True, True, False, True])
    found = content_traits(table, features(brand="categorical", price="numeric"), seen)
    assert found.shape == (4, 2 + 2)
    np.testing.assert_array_equal(found[2, :2], 0)


def test_texts_and_missing_tables_say_nothing():
    table = pa.table({"title": ["a", "b", "c", "d"]})
    assert content_traits(table, features(title="text"), ALL).shape == (4, 0)
    assert content_traits(pa.table({}), (), ALL).shape == (4, 0)


def test_those_who_meet_the_same_are_alike():
    # users 0 to 9 meet items 0 to 5, users 10 to 19 items 6 to 11; the last ones meet nobody
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(20), 4)
    item = np.concatenate([rng.permutation(6)[:4] + 6 * (u >= 10) for u in range(20)])
    users, items = meeting_traits(user, item, users=21, items=13)
    assert np.isfinite(users).all() and np.isfinite(items).all()
    # of items also how many they met
    assert items.shape[1] == users.shape[1] + 1
    near = np.corrcoef(users[:20])
    same = (np.arange(20)[:, None] < 10) == (np.arange(20) < 10)
    assert near[same].mean() > near[~same].mean() + 0.3


def test_where_nobody_met_there_are_only_zeros():
    none = np.zeros(0, np.int64)
    users, items = meeting_traits(none, none, users=3, items=2)
    assert not users.any() and not items.any() and len(users) == 3 and len(items) == 2
