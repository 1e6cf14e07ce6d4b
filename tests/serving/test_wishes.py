"""What a client asks for becomes the inputs that a model says it has."""

import numpy as np
import pytest

from interactions.errors import UserError
from serving.answers import Signature, TensorSpec
from serving.wishes import Wishes, request_inputs

TEXT, REAL, INT, LONG, BOOL = "DT_STRING", "DT_FLOAT", "DT_INT32", "DT_INT64", "DT_BOOL"


def spec(dtype, *shape):
    return TensorSpec(dtype, (None, *shape))


SIGNATURE = Signature(
    inputs={
        "user_id": spec(TEXT), "k": spec(INT), "time": spec(LONG),
        "history": spec(TEXT, 3), "history_time": spec(LONG, 3),
        "exclude": spec(TEXT, 4), "allow": spec(TEXT, 2), "task_weights": spec(REAL, 2),
        "diversity": spec(REAL), "explain": spec(BOOL),
        "only_brand_name": spec(TEXT, 2), "never_brand_name": spec(TEXT, 2),
        "at_most_brand_name": spec(INT), "min_price": spec(REAL), "max_price": spec(REAL),
        "context_device": spec(TEXT), "context_hour": spec(REAL), "context_place": spec(REAL, 2),
    },
    outputs=dict.fromkeys(
        ["item_id", "score", "retrieval_score", "count", "because_item_id", "because_score",
         "task_weights", "retrieval", "purchase"],
        spec(REAL, 5),
    ),
)  # fmt: skip


def inputs(users=("ann",), k=3, **wished):
    return request_inputs(SIGNATURE, Wishes(**wished), users, k=k)


def test_what_is_left_out_says_nothing():
    found = inputs(["ann", "bob"])
    assert set(found) == set(SIGNATURE.inputs)
    assert found["user_id"].tolist() == ["ann", "bob"]
    assert found["k"].tolist() == [3, 3]
    assert found["exclude"].tolist() == [[""] * 4] * 2
    assert found["history_time"].dtype == np.int64
    assert found["explain"].tolist() == [False, False]
    assert found["diversity"].tolist() == [0, 0]
    assert found["min_price"][0] < -1e38 and found["max_price"][0] > 1e38
    assert found["context_device"].tolist() == ["", ""]
    assert np.isnan(found["context_hour"]).all() and np.isnan(found["context_place"]).all()


def test_wishes_are_padded_to_the_widths_of_the_model():
    found = inputs(
        exclude=["a", "", "b"], only={"brand name": ["x"]}, never={"brand name": ["y", "z"]},
        least={"price": 2.5}, at_most={"brand name": 2}, diversity=0.4, explain=True,
        context={"device": "phone", "hour": 3, "place": [1.0, 2.0]}, time=99,
    )  # fmt: skip
    assert found["exclude"].tolist() == [["a", "b", "", ""]]
    assert found["only_brand_name"].tolist() == [["x", ""]]
    assert found["never_brand_name"].tolist() == [["y", "z"]]
    assert found["min_price"].tolist() == [2.5]
    assert found["at_most_brand_name"].tolist() == [2]
    assert found["diversity"] == pytest.approx(0.4)
    assert found["explain"].tolist() == [True]
    assert found["context_place"].tolist() == [[1.0, 2.0]]
    assert found["time"].tolist() == [99]


def test_of_a_long_history_the_latest_are_asked_by():
    items = [f"item {n}" for n in range(10_000)]
    found = inputs(history=items, history_time=range(10_000))
    assert found["history"].tolist() == [items[-3:]]
    assert found["history_time"].tolist() == [[9997, 9998, 9999]]


def test_empty_lists_are_not_the_same_as_none():
    none, empty = inputs(), inputs(allow=[], history=[])
    assert (none["allow"] == "").all() and (none["history"] == "").all()
    # something that is the name of no item
    assert empty["allow"][0, 0] not in ("", None) and "\n" in empty["allow"][0, 0]
    assert "\n" in empty["history"][0, 0]


def test_weights_are_in_the_order_of_the_names():
    found = inputs(task_weights={"retrieval": 2.0})["task_weights"]
    assert np.isnan(found[0, 0]) and found[0, 1] == 2.0


@pytest.mark.parametrize(
    ("wished", "message"),
    [
        ({"exclude": ["x"] * 5}, "exclude has 5 entries, but the model takes 4"),
        ({"only": {"brand name": ["1", "2", "3"]}}, "only_brand_name has 3 entries"),
        ({"only": {"colour": ["red"]}}, "no input 'only_colour'"),
        ({"least": {"brand name": 1.0}}, "no input 'min_brand_name'"),
        ({"task_weights": {"luck": 1.0}}, "no task 'luck'; it has purchase, retrieval"),
        ({"task_weights": {"purchase": -1.0}}, "the weight of 'purchase' is -1.0"),
        ({"task_weights": {"purchase": float("inf")}}, "the weight of 'purchase' is inf"),
        ({"task_weights": {"purchase": float("nan")}}, "the weight of 'purchase' is nan"),
        ({"diversity": 1.5}, "diversity is 1.5"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"at_most": {"brand name": 0}}, "give at least 1"),
        ({"history": ["a"], "history_time": [1, 2]}, "2 times, but history has 1"),
        ({"context": {"moon": "full"}}, "no input 'context_moon'"),
    ],
)
def test_what_the_model_cannot_mean_is_refused_in_one_line(wished, message):
    with pytest.raises(UserError, match=message) as caught:
        inputs(**wished)
    assert "\n" not in str(caught.value)
