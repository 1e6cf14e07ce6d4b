import json

import numpy as np
import pyarrow as pa
import pytest

from interactions.errors import UserError
from interactions.log import NEVER

T = 1_500_000_000
"""A time in seconds."""
HEADER = "user_id,item_id,timestamp,rating\n"
RATING = {"rating": {"column": "rating", "kind": "regression"}}


def named(log):
    """The log's rows as (user id, item id, seconds after T)."""
    users, items = log.user_ids[log.user].tolist(), log.item_ids[log.item].tolist()
    return list(zip(users, items, (log.time // 1_000_000 - T).tolist(), strict=True))


def test_rows_are_sorted_by_user_and_time_with_ties_in_the_order_of_the_file(folder):
    events = folder.csv(
        "e.csv",
        HEADER + f"b,x,{T + 5},1\na,z,{T + 9},2\nb,y,{T + 1},3\nb,w,{T + 5},4\na,y,{T + 9},5\n",
    )
    log = folder.load(events, RATING).log
    assert named(log) == [
        ("b", "y", 1), ("b", "x", 5), ("b", "w", 5), ("a", "z", 9), ("a", "y", 9),
    ]  # fmt: skip
    assert log.labels["rating"].value.tolist() == [3, 1, 4, 2, 5]
    assert log.offsets.tolist() == [0, 3, 5]


def test_everything_dropped_is_counted_with_its_reason(folder):
    events = folder.csv(
        "e.csv",
        HEADER
        + f"a,x,{T},5\n"  # kept
        + f"a,x,{T},5\n"  # a repetition
        + f"a,x,{T},4\n"  # not one: its rating differs
        + f",x,{T},5\n"
        + f"a,,{T},5\n"
        + "a,x,,5\n"
        + f"a,x,{T + 1},9\n"  # out of range
        + f'a,"x\ny",{T},5\n'
        + f"b,x,{T},\n",  # no label is no reason
    )
    task = {"rating": {"column": "rating", "kind": "regression", "range": [0.5, 5]}}
    loaded = folder.load(events, task)
    report = loaded.report
    assert report.dropped == {
        "events: no user_id": 1,
        "events: no item_id": 1,
        "events: item_id with a line break, which no vocabulary holds": 1,
        "events: no timestamp": 1,
        "events: exact repetition of an earlier row": 1,
        "events: label of task 'rating' outside [0.5, 5.0]": 1,
    }
    assert (report.read, report.kept, len(loaded.log)) == (9, 3, 3)
    assert report.read - report.kept == sum(report.dropped.values())
    text = "\n".join(report.lines())
    assert "'x\\ny'" in text
    assert "seconds (detected)" in text
    assert json.loads(json.dumps(report.to_dict()))["dropped"] == report.dropped


def test_parquet_ids_numbers_and_empty_strings(folder):
    events = folder.parquet(
        "e.parquet",
        {
            "user_id": [7, 7, 8],
            "item_id": ["01", "", "b\r"],
            "timestamp": [T * 1000] * 3,
        },
    )
    loaded = folder.load(events)
    assert named(loaded.log) == [("7", "01", 0)]
    assert sum(loaded.report.dropped.values()) == 2


def test_features_follow_their_ids_and_unknown_ones_are_null(folder):
    events = folder.csv("e.csv", f"user_id,item_id,timestamp\nu,i2,{T}\nu,i9,{T}\nv,i1,{T}\n")
    items = folder.csv(
        "items.csv",
        'item_id,name,price,tags\ni1,"One, two",1.5,a|b\ni2,,NA,\ni3,Three,3,c\n'
        "i1,Again,9,d\n,x,1,e\n",
    )
    users = folder.parquet("u.parquet", {"user_id": ["v"], "zip": ["007"], "taste": [[0.5, 1.0]]})
    loaded = folder.load(
        events,
        items=items,
        users=users,
        item_features=[
            {"name": "title", "column": "name", "kind": "text"},
            {"name": "price", "kind": "numeric"},
            {"name": "tags", "kind": "categories"},
        ],
        user_features=[{"name": "zip", "kind": "categorical"}, {"name": "taste", "kind": "vector"}],
    )
    log, report = loaded.log, loaded.report
    of_item = dict(zip(log.item_ids, log.item_table.to_pylist(), strict=True))
    assert of_item == {
        "i1": {"title": "One, two", "price": 1.5, "tags": "a|b"},
        "i2": {"title": None, "price": None, "tags": None},
        "i3": {"title": "Three", "price": 3.0, "tags": "c"},
        "i9": {"title": None, "price": None, "tags": None},
    }
    of_user = dict(zip(log.user_ids, log.user_table.to_pylist(), strict=True))
    assert of_user == {"u": {"zip": None, "taste": None}, "v": {"zip": "007", "taste": [0.5, 1.0]}}
    assert (report.items_without_row, report.users_without_row) == (1, 1)
    assert report.dropped["items: item_id that stands on an earlier row too"] == 1
    assert report.dropped["items: no item_id"] == 1
    assert log.first_seen[list(log.item_ids).index("i3")] == NEVER
    assert log.item_table.schema.types == [pa.string(), pa.float64(), pa.string()]


def test_event_features_stay_with_their_rows(folder):
    events = folder.csv(
        "e.csv", f"user_id,item_id,timestamp,device\nb,x,{T + 1},tv\na,y,{T},web\nb,x,{T},\n"
    )
    log = folder.load(events, event_features=[{"name": "device", "kind": "categorical"}]).log
    assert log.event_table["device"].to_pylist() == [None, "tv", "web"]


def test_no_items_file_is_fine_but_its_features_are_not(folder):
    events = folder.csv("e.csv", f"user_id,item_id,timestamp\na,x,{T}\nb,y,{T}\n")
    assert folder.load(events).report.items_without_row is None
    with pytest.raises(UserError, match="item_features asks for 'title'"):
        folder.load(events, item_features=[{"name": "title", "kind": "text"}])


def test_positive_chooses_and_everything_stays_an_exposure(folder):
    events = folder.csv("e.csv", HEADER + f"a,x,{T},5\na,y,{T},3\na,z,{T},\n")
    log = folder.load(events, RATING, positive="rating >= 4").log
    assert log.chosen.tolist() == [True, False, False]
    assert log.exposure.all()
    with pytest.raises(UserError, match="'rating >= 6' holds on none"):
        folder.load(events, RATING, positive="rating >= 6")


def test_binary_labels_from_columns_and_conditions(folder):
    events = folder.csv(
        "e.csv",
        "user_id,item_id,timestamp,n,bought\n" + f"a,x,{T},2,true\na,y,{T},1,False\na,z,{T},,\n",
    )
    tasks = {
        "many": {"column": "n > 1", "kind": "binary"},
        "bought": {"column": "bought", "kind": "binary"},
    }
    log = folder.load(events, tasks).log
    for name in tasks:
        np.testing.assert_array_equal(log.labels[name].value, np.array([1, 0, np.nan], np.float32))
        # Known once it has happened, and not before.
        assert np.isnan(log.labels[name].at(log.time)).all()
        assert log.labels[name].at(log.time + 1)[0] == 1
    with pytest.raises(UserError, match=r"binary, but column 'n' holds 2.*'n > 0'"):
        folder.load(events, {"n": {"column": "n", "kind": "binary"}})


def test_a_rating_column_of_text_names_column_value_and_remedy(folder):
    events = folder.csv("e.csv", HEADER + f"a,x,{T},5\na,y,{T},good\n")
    with pytest.raises(UserError, match=r"column 'rating' holds 'good'.*needs a column of numbers"):
        folder.load(events, RATING)
    with pytest.raises(UserError, match=r"column 'rating' holds 'good'.*categorical"):
        folder.load(events, event_features=[{"name": "rating", "kind": "numeric"}])


@pytest.mark.parametrize(
    ("ratings", "words"),
    [(["", ""], "no label on any row"), (["3", "3"], "one value only"), (["1", "2"], None)],
)
def test_labels_that_teach_nothing_are_warned_of(folder, ratings, words):
    rows = "".join(f"a,x{n},{T},{rating}\n" for n, rating in enumerate(ratings))
    report = folder.load(folder.csv("e.csv", HEADER + rows), RATING).report
    assert (words in report.warnings[0]) if words else not report.warnings


def test_the_order_of_rows_stands_in_for_times(folder):
    events = folder.csv("e.csv", "user_id,item_id\nb,x\na,y\nb,x\nb,z\n")
    loaded = folder.load(events, timestamp=None)
    log = loaded.log
    assert not log.has_times
    assert log.item_ids[log.item].tolist() == ["x", "x", "z", "y"]  # plays may repeat
    assert log.time.tolist() == [0, 1, 2, 0]
    assert "order" in "\n".join(loaded.report.lines())


def test_a_bare_order_is_unique_within_a_user(folder):
    events = folder.csv("e.csv", "user_id,item_id,timestamp\na,x,2\na,y,1\na,z,2\n")
    log = folder.load(events, timestamp_unit="order").log
    assert log.item_ids[log.item].tolist() == ["y", "x", "z"]
    assert log.time.tolist() == [0, 1, 2]


def test_nothing_usable_says_why(folder):
    events = folder.csv("e.csv", HEADER + f",x,{T},5\na,,{T},3\n")
    with pytest.raises(UserError, match=r"none of the 2 rows is usable.*no user_id: 1"):
        folder.load(events, RATING)


@pytest.mark.parametrize("missing", ["user_id", "item_id", "timestamp", "rating"])
def test_a_missing_column_is_named_with_those_there_are(folder, missing):
    events = folder.csv("e.csv", HEADER.replace(missing, "other") + f"a,x,{T},5\n")
    with pytest.raises(UserError, match=f"no column '{missing}'; its columns are .*other"):
        folder.load(events, RATING)


TYPED = "user_id,item_id,timestamp,type,stars\n"
TYPES = {"column": "type", "exposure": ["impression"], "chosen": ["view"]}
TYPED_TASKS = {
    "purchase": {"kind": "binary", "event": ["purchase"]},
    "rating": {"kind": "regression", "column": "stars"},
}


def test_labels_of_typed_logs_go_to_the_latest_exposure_of_the_item(folder):
    events = folder.csv(
        "e.csv",
        TYPED
        + f"a,x,{T + 1},impression,\n"
        + f"a,x,{T + 2},view,\n"
        + f"a,x,{T + 5},impression,\n"
        + f"a,x,{T + 6},purchase,\n"  # of the second impression
        + f"a,x,{T + 9},purchase,\n"
        + f"a,x,{T + 8},rating,4\n"
        + f"a,x,{T + 9},rating,2\n"
        + f"a,y,{T + 4},impression,\n"
        + f"a,z,{T + 3},purchase,\n"  # before its exposure
        + f"a,z,{T + 4},impression,\n"
        + f"b,y,{T + 9},purchase,\n"  # never shown to b
        + f"b,x,{T},view,\n",
    )
    log = folder.load(events, TYPED_TASKS, event=TYPES).log
    assert named(log) == [
        ("a", "x", 1), ("a", "x", 2), ("a", "y", 4), ("a", "z", 4), ("a", "x", 5), ("b", "x", 0),
    ]  # fmt: skip
    assert log.exposure.tolist() == [True, False, True, True, True, False]
    assert log.chosen.tolist() == [False, True, False, False, False, True]
    purchase, rating = log.labels["purchase"], log.labels["rating"]
    nan = np.nan
    np.testing.assert_array_equal(purchase.value, np.array([0, nan, 0, 0, 1, nan], np.float32))
    np.testing.assert_array_equal(rating.value, np.array([nan, nan, nan, nan, 4, nan], np.float32))
    after_6, after_8 = (T + 6) * 1_000_000 + 1, (T + 8) * 1_000_000 + 1
    # What had not come yet is a 0 for the event and unknown for the value.
    np.testing.assert_array_equal(
        purchase.at(after_6 - 1), np.array([0, nan, 0, 0, 0, nan], np.float32)
    )
    np.testing.assert_array_equal(
        purchase.at(after_6), np.array([0, nan, 0, 0, 1, nan], np.float32)
    )
    assert np.isnan(rating.at(after_8 - 1)).all()
    assert rating.at(after_8)[4] == 4


def test_a_label_at_the_time_of_its_exposure_counts_whatever_the_order_in_the_file(folder):
    events = folder.csv("e.csv", TYPED + f"a,x,{T},purchase,\na,x,{T},impression,\na,x,{T},view,\n")
    log = folder.load(events, {"purchase": TYPED_TASKS["purchase"]}, event=TYPES).log
    np.testing.assert_array_equal(log.labels["purchase"].value, np.array([1, np.nan], np.float32))


def test_without_impressions_the_chosen_rows_are_exposures(folder):
    events = folder.csv("e.csv", TYPED + f"a,x,{T},view,3\na,x,{T},view,5\na,x,{T + 1},buy,\n")
    log = folder.load(
        events, {"rating": TYPED_TASKS["rating"]}, event={"column": "type", "chosen": ["view"]}
    ).log
    assert log.exposure.tolist() == [True, True]
    # Each row keeps the label that stands on it, also where times are equal.
    assert log.labels["rating"].value.tolist() == [3, 5]


def test_types_that_do_not_occur_are_named_with_those_that_do(folder):
    events = folder.csv("e.csv", TYPED + f"a,x,{T},click,\n")
    with pytest.raises(UserError, match=r"\['view'\]; column 'type' holds click"):
        folder.load(events, event=TYPES)


def test_event_tasks_need_a_log_with_types(folder):
    events = folder.csv("e.csv", TYPED + f"a,x,{T},click,\n")
    with pytest.raises(UserError, match="task 'purchase' counts events"):
        folder.load(events, {"purchase": TYPED_TASKS["purchase"]})


def test_vectors_of_different_lengths_are_refused(folder):
    events = folder.csv("e.csv", f"user_id,item_id,timestamp,v\na,x,{T},[1 2]\na,y,{T},1 2 3\n")
    with pytest.raises(UserError, match=r"lengths \[2, 3\]"):
        folder.load(events, event_features=[{"name": "v", "kind": "vector"}])


def test_weights_stay_with_their_rows(folder):
    header = "user_id,item_id,timestamp,counts\n"
    events = folder.csv("e.csv", header + f"b,x,{T + 5},0.5\na,z,{T},0\nb,y,{T + 1},3\n")
    log = folder.load(events, weight="counts").log
    assert named(log) == [("b", "y", 1), ("b", "x", 5), ("a", "z", 0)]
    assert log.weight.tolist() == [3, 0.5, 0]
    assert folder.load(events).log.weight is None


def test_rows_that_only_carry_labels_need_no_weight(folder):
    events = folder.csv(
        "e.csv",
        f"user_id,item_id,timestamp,type,counts\na,x,{T},view,2\na,x,{T + 1},purchase,\n",
    )
    event = {"column": "type", "exposure": ["view"], "chosen": ["view"]}
    log = folder.load(events, weight="counts", event=event).log
    assert log.weight.tolist() == [2]


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (("1", "-2"), "holds -2 on 1 rows"),
        (("1", ""), "holds nothing on 1 rows"),
        (("1", "inf"), "holds inf on 1 rows"),
        (("1", "much"), "holds 'much', which is no number"),
        (("0", "0"), "is 0 on every row"),
    ],
)
def test_impossible_weights_are_refused_with_column_value_and_remedy(folder, counts, says):
    rows = "".join(f"u{n},x,{T + n},{count}\n" for n, count in enumerate(counts))
    events = folder.csv("e.csv", "user_id,item_id,timestamp,counts\n" + rows)
    with pytest.raises(UserError) as refused:
        folder.load(events, weight="counts")
    message = str(refused.value)
    assert says in message and "'counts'" in message
    assert "data.weight needs a number of at least 0" in message
