"""Exposures put together by request: nothing is lost, nothing is mixed."""

import numpy as np
import pytest

from features.encoders import FeatureSpec
from features.entities import EncodedTable
from interactions.candidates import Exposures
from interactions.queries import Queries
from ranking.pages import Pages

NO_CONTEXT = EncodedTable((), {})


def shown(user, time):
    rows = np.arange(len(user))
    queries = Queries(rows, np.array(user, np.int32), np.array(time), (rows + 100).astype(np.int32))
    return Exposures(queries, rows.astype(np.float32) / 10, {})


def random_log(sizes):
    user = np.repeat(np.arange(len(sizes)), sizes)
    return shown(user, user * 7)


@pytest.mark.parametrize("sizes", [[10] * 20, [1] * 30, [100, 1, 1], [3, 9, 8, 40, 1], [70]])
def test_every_exposure_is_on_one_page_of_its_own_request(sizes):
    exposures = random_log(sizes)
    pages = Pages.of(exposures, NO_CONTEXT)
    there = pages.exposure >= 0
    assert sorted(pages.exposure[there].tolist()) == list(range(sum(sizes)))
    asked = exposures.queries
    for page in range(len(pages)):
        index = pages.exposure[page][there[page]]
        assert (asked.user[index] == pages.queries.user[page]).all()
        assert (asked.time[index] == pages.queries.time[page]).all()
        assert (asked.item[index] == pages.item[page][there[page]]).all()
    assert (pages.item[~there] == -1).all()
    assert pages.item.size <= 2 * sum(sizes)


def test_equal_requests_share_their_query():
    assert Pages.of(random_log([8] * 10), NO_CONTEXT).item.shape == (10, 8)
    assert Pages.of(random_log([1] * 10), NO_CONTEXT).item.shape == (10, 1)


def test_another_context_is_another_request():
    exposures = random_log([4, 4])
    device = np.array([0, 0, 1, 1, 0, 0, 0, 0, 9], np.int32)
    context = EncodedTable((FeatureSpec("device", "categorical", 10, 0),), {"device": device})
    pages = Pages.of(exposures, context)
    for page in range(len(pages)):
        index = pages.exposure[page][pages.exposure[page] >= 0]
        assert len(set(device[index].tolist())) == 1


def test_values_are_spread_as_the_items_are():
    pages = Pages.of(random_log([3, 2]), NO_CONTEXT)
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0], np.float32)
    spread = pages.take(np.arange(len(pages))[::-1]).spread(values, filler=-9.0)
    assert spread.dtype == np.float32
    found = sorted(spread[spread != -9.0].tolist(), key=lambda v: (np.isnan(v), v))
    np.testing.assert_array_equal(found, [1.0, 2.0, 4.0, 5.0, np.nan])


def test_no_exposure_makes_no_page():
    pages = Pages.of(random_log([]), NO_CONTEXT)
    assert len(pages) == 0
    assert pages.spread(np.zeros(0, np.float32), filler=0.0).shape[0] == 0
