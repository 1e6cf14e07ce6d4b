"""What content says of labels: of an item without any, and never by its own."""

import numpy as np
import pyarrow as pa
import pytest

from features.content_labels import content_values, said_by_content
from features.label_factors import label_factors
from interactions.config import FeatureConfig

ITEMS, BRANDS = 400, 100
"""More brands than `content_traits` has columns for."""


def features(**kinds):
    return tuple(FeatureConfig(name=name, kind=kind) for name, kind in kinds.items())


@pytest.fixture(scope="module")
def shop():
    """Items whose label is mostly their brand's: three labels each, the last fifty have none."""
    rng = np.random.default_rng(0)
    brand = np.arange(ITEMS) % BRANDS
    merit = rng.normal(size=BRANDS)
    table = pa.table({"brand": [f"brand {b}" for b in brand]})
    seen = np.arange(ITEMS) < ITEMS - 50
    content = content_values(table, features(brand="categorical"), seen)
    item = np.repeat(np.flatnonzero(seen), 3)
    label = merit[brand[item]] + rng.normal(0, 0.3, len(item))
    return content, item, label - label.mean(), merit[brand]


def test_every_value_and_word_that_several_have_is_a_column():
    table = pa.table(
        {
            "title": ["Red  shoe", "red SHOE!", "red hat", None],
            "kinds": ["a|b", "a", "a|b", "b"],
            "price": [1.0, 2.0, 3.0, 4.0],
        }
    )
    found = content_values(
        table, features(title="text", kinds="categories", price="numeric"), np.ones(4, bool)
    ).toarray()
    # "red" of the titles; "a" and "b" of the kinds
    assert found.shape == (5, 3)
    assert sorted(found.sum(axis=0)) == pytest.approx(sorted([3.0, 1 + 2 / 2**0.5, 1 + 2 / 2**0.5]))
    np.testing.assert_allclose(np.square(found[:3]).sum(axis=1), [2, 2, 2])
    assert not found[-1].any()  # of an unknown item nothing is known


def test_values_of_unseen_rows_do_not_count():
    table = pa.table({"brand": ["a", "a", "a", "b"]})
    seen = np.array([True, True, False, True])
    assert content_values(table, features(brand="categorical"), seen).shape == (5, 0)


def test_content_tells_of_items_without_labels(shop):
    content, item, label, truth = shop
    said = said_by_content(content, item, label)
    assert len(said) == ITEMS + 1 and said[-1] == 0
    new = slice(ITEMS - 50, ITEMS)
    assert np.corrcoef(said[new], truth[new])[0, 1] > 0.9


def test_an_item_is_told_by_the_labels_of_others(shop):
    content, item, label, _ = shop
    changed = label.copy()
    changed[item == 7] += 0.5
    before, after = (said_by_content(content, item, some) for some in (label, changed))
    assert after[7] == pytest.approx(before[7], abs=1e-9)
    # others of its brand are in other folds, most of them
    same = np.flatnonzero(np.arange(ITEMS) % BRANDS == 7)[1:]
    assert (after[same] > before[same]).any()


def test_labels_without_content_say_nothing_and_do_no_harm(shop):
    content, item, label, _ = shop
    assert not said_by_content(0 * content, item, label).any()
    nobody_has_any = content_values(pa.table({}), (), np.ones(ITEMS, bool))
    assert not said_by_content(nobody_has_any, item, label).any()
    assert not said_by_content(content, item[:6], label[:6]).any()  # two items teach nothing


def test_factors_of_new_items_begin_where_their_content_says(shop):
    content, item, label, truth = shop
    user = np.random.default_rng(1).integers(0, 30, len(item))
    new = np.arange(ITEMS - 50, ITEMS)
    errors = []
    for known in (content, None):
        found = label_factors(
            user,
            item,
            3 + label,
            user_traits=np.zeros((31, 0)),
            item_traits=np.zeros((ITEMS + 1, 0)),
            item_content=known,
        )
        off = found.predict(np.zeros(50, int), new) - 3 - truth[new]
        errors.append(np.sqrt(np.mean(np.square(off - off.mean()))))
    assert errors[0] < 0.6 * errors[1]
