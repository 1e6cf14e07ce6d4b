"""Item columns that requests filter by: which items have a value."""

import numpy as np

from export.attributes import OneOf
from export.filterable import CategoryColumn
from features.backend import tf

# 64 items: "rare" is that of three, "many" of half of them
VALUES = [["many"] if n % 2 else ([] if n % 3 else ["rare", "x"]) for n in range(64)]
VALUES = [[v for v in one if v != "rare" or n in (0, 12, 60)] for n, one in enumerate(VALUES)]
COLUMN = CategoryColumn(VALUES, padded=64, name="kind")


def items_at(*texts):
    return COLUMN.items_at(COLUMN.listed(tf.constant(texts))).numpy()


def test_the_items_of_a_value_are_listed_in_their_order():
    np.testing.assert_array_equal(
        items_at("rare", "no such", "rare"), [[0, 12, 60], [-1, -1, -1], [0, 12, 60]]
    )
    assert items_at("x").tolist() == [list(range(0, 64, 6))]
    assert items_at("no such").tolist() == [[-1]]


def test_a_rule_knows_few_items_where_each_row_gives_one_value_that_few_have():
    def known(*rows):
        return bool(OneOf(COLUMN, tf.constant(rows)).few().known)

    assert known(["", "rare"], ["rare", ""])
    assert known(["no such", ""])
    assert not known(["rare", ""], ["", ""])  # a row without a rule may have any item
    assert not known(["rare", "no such"])  # an item may have several values
    assert not known(["rare"], ["many"])  # no longer few
