import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from interactions.errors import UserError
from interactions.timestamps import read_times

SECOND = 1_500_000_000
MOMENT = "2017-07-14T02:40:00"


def read(values, unit: Any = "auto", type_=None):
    return read_times(pa.chunked_array([pa.array(values, type_)]), unit=unit, name="ts")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([SECOND], "seconds"),
        ([float(SECOND)], "seconds"),
        ([str(SECOND)], "seconds"),
        ([SECOND * 1000], "milliseconds"),
        ([SECOND * 1_000_000], "microseconds"),
        ([MOMENT], "ISO"),
        ([MOMENT.replace("T", " ")], "ISO"),
        ([MOMENT + "Z"], "ISO"),
        (["2017-07-14T04:40:00+02:00"], "ISO"),
        ([datetime.datetime(2017, 7, 14, 2, 40)], "timestamps of the file"),
        ([datetime.datetime(2017, 7, 14, 2, 40, tzinfo=datetime.UTC)], "timestamps of the file"),
    ],
)
def test_every_unit_is_found_out_said_and_means_the_same_moment(values, words):
    times = read(values)
    assert times.value.tolist() == [SECOND * 1_000_000]
    assert words in times.unit


def test_dates_and_fractions_of_seconds():
    assert read([datetime.date(1970, 1, 2)]).value.tolist() == [86_400_000_000]
    assert read(["2017-07-14 02:40:00.25"]).value.tolist() == [SECOND * 1_000_000 + 250_000]
    assert read([SECOND + 0.5]).value.tolist() == [SECOND * 1_000_000 + 500_000]


def test_missing_times_are_not_valid():
    times = read([str(SECOND), None, "NA", ""])
    assert times.valid.tolist() == [True, False, False, False]
    assert read([float(SECOND), float("nan"), None]).valid.tolist() == [True, False, False]
    assert read([MOMENT, None]).valid.tolist() == [True, False]


def test_mixed_zones_agree():
    times = read([MOMENT, MOMENT + "Z", "2017-07-13T22:40:00-0400", None])
    assert np.unique(times.value[times.valid]).tolist() == [SECOND * 1_000_000]


def test_order_keeps_order_and_given_units_are_believed():
    assert np.argsort(read([3, 1, 2], "order").value).tolist() == [1, 2, 0]
    assert np.argsort(read([0.3, 0.1, 0.2], "order").value).tolist() == [1, 2, 0]
    assert read([7], "seconds").value.tolist() == [7_000_000]
    assert read([SECOND], "milliseconds").value.tolist() == [SECOND * 1000]
    assert read([2**53 + 1], "microseconds").value.tolist() == [2**53 + 1]


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        ([1, 2, 3], "auto", "unit cannot be told; give timestamp_unit"),
        (["yesterday", MOMENT], "auto", "'yesterday'.*no time"),
        ([MOMENT, "soon"], "auto", "'soon'.*no time"),
        ([str(SECOND), "soon"], "auto", "'soon'.*no number"),
        ([SECOND * 10**9], "seconds", "too large for seconds"),
        ([SECOND], "iso", "use timestamp_unit: auto"),
        ([[1]], "auto", "not numbers"),
    ],
)
def test_what_is_no_time_is_named_with_a_remedy(values, unit, message):
    with pytest.raises(UserError, match=message) as caught:
        read(values, unit)
    assert "'ts'" in str(caught.value)
