import pyarrow as pa
import pytest

from interactions.conditions import Condition, is_condition
from interactions.errors import UserError

TABLE = pa.table(
    {
        "rating": [5.0, 3.0, None, 4.0],
        "text": ["4", "3.5", "", "NA"],
        "event": ["view", "buy", "view", None],
        "my column": [1, 2, 3, 4],
        "flag": [True, False, True, None],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rating >= 4", [True, False, None, True]),
        ("rating<4", [False, True, None, False]),
        ("rating != 3", [True, False, None, True]),
        ("text > 3.6", [True, False, None, None]),
        ("event == 'view'", [True, False, True, None]),
        ('event != "view"', [False, True, False, None]),
        ("`my column` >= 2 and event == 'view'", [False, False, True, None]),
        ("rating >= -1e0 and rating <= 4", [False, True, None, True]),
        ("flag == true", [True, False, True, None]),
    ],
)
def test_conditions_hold_where_they_should(text, expected):
    assert Condition.parse(text).holds(TABLE).to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "rating",
        "rating >= ",
        "rating >= x",
        "rating = 4",
        "a > 1 or b > 2",
        "a > 1 and",
        "",
        "4 < a",
    ],
)
def test_what_is_no_condition_is_refused_with_an_example(text):
    with pytest.raises(UserError, match="rating >= 4"):
        Condition.parse(text)


def test_nothing_is_run(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(UserError):
        Condition.parse(f"__import__('pathlib').Path('{target}').touch() > 1")
    assert not target.exists()


def test_unknown_column_and_text_compared_with_a_number_are_named():
    with pytest.raises(UserError, match="no column 'stars'; the columns are rating, text"):
        Condition.parse("stars > 1").holds(TABLE)
    with pytest.raises(UserError, match="column 'event' holds 'view'"):
        Condition.parse("event > 1").holds(TABLE)


def test_columns_and_names():
    assert Condition.parse("a > 1 and b < 2 and a < 9").columns == ("a", "b")
    assert is_condition("a > 1")
    assert not is_condition("sales_value")
