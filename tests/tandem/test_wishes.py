import pytest

from interactions.errors import UserError
from serving.wishes import Wishes
from tandem.wishes import wishes

NOTHING = dict.fromkeys(("exclude", "allow", "where", "at_most", "weight"), ()) | {
    "diversity": 0.0, "explain": False,
}  # fmt: skip


def asked(**options):
    return wishes(**{**NOTHING, **options})


def test_no_option_is_no_wish():
    assert asked() is None


def test_options_become_wishes():
    found = asked(
        exclude=("a", "b"), at_most=("brand=2",), diversity=0.3, explain=True,
        weight=("purchase=2", "view = .5"),
        where=("category=shoes", "category = boots", "category!=hats", "price<=50", "price>= 9.5",
               "title=a=b"),
    )  # fmt: skip
    assert found == Wishes(
        exclude=("a", "b"),
        only={"category": ["shoes", "boots"], "title": ["a=b"]},
        never={"category": ["hats"]},
        least={"price": 9.5},
        most={"price": 50.0},
        at_most={"brand": 2},
        task_weights={"purchase": 2.0, "view": 0.5},
        diversity=0.3,
        explain=True,
    )


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("where", "price"), ("where", "=shoes"), ("where", "price<=cheap"), ("where", "price<"),
        ("at_most", "brand"), ("at_most", "brand=two"), ("at_most", "brand=0"),
        ("weight", "price"), ("weight", "price=much"), ("weight", "price=-1"),
        ("weight", "price=nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(option, text):
    with pytest.raises(UserError, match=r"price|shoes|brand"):
        asked(**{option: (text,)})
