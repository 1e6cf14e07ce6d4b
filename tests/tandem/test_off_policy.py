"""What orders would have earned, where the log says with which probability it showed what."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from evaluation.report import Metrics
from interactions.split import TEST
from ranking.scoring import reorder
from tandem.data import read_data
from tandem.fit import config_of
from tandem.logged_requests import logged_requests
from tandem.off_policy import add_off_policy
from tandem.show import off_policy_table
from tandem.system import candidates_of, exposures_of, load_system

CHANCE = 0.1
PREDICTED = 0.25


@pytest.fixture(scope="module")
def trained(finished):
    """The finished run, whose every other row was shown with a chance of one in ten."""
    run = finished.folder
    data = read_data(config_of(run), run=run, console=Console(quiet=True))
    found = load_system(data, folder=run)
    log = found.data.log
    chance = np.where(np.arange(len(log)) % 2 == 0, CHANCE, np.nan)
    return replace(found, data=replace(found.data, log=replace(log, propensity=chance)))


@pytest.fixture(scope="module")
def shown(trained):
    return exposures_of(trained.data, trained.searcher, TEST)


@pytest.fixture(scope="module")
def metrics(trained, shown):
    found = Metrics()
    predicted = {task: np.full(len(shown), PREDICTED) for task in shown.labels}
    add_off_policy(found, trained, shown, predicted)
    return found


def test_what_the_log_has_not_is_left_out(metrics, trained, shown):
    known = (shown.queries.row % 2 == 0) & ~np.isnan(shown.labels["purchase"])
    logged = metrics["off_policy.logged.purchase_mean"]
    assert 0 < known.sum() < len(shown)
    assert logged.n == known.sum()
    assert logged.value == pytest.approx(shown.labels["purchase"][known].mean())
    assert not [key for key in metrics if "rating" in key]  # ratings are no events


@pytest.mark.parametrize("order", ["retrieval", "recommender"])
def test_an_order_earns_what_its_first_ten_did_where_they_were_shown(
    order, metrics, trained, shown
):
    """One exposure at a time, by the definition of the estimate."""
    earned, weights, robust = [], [], []
    for place in np.flatnonzero(shown.queries.row % 2 == 0):
        one = shown.take(np.array([place]))
        table = candidates_of(trained.data, trained.searcher, one.queries)
        found = trained.scorer.predict(table.queries, table.item, table.retrieval_score)
        ranked = table.item
        if order == "recommender":
            ranked = reorder(table.item, trained.order.score(found).numpy())
        first = [item for item in ranked[0, :10] if item >= 0]
        weight = (one.queries.item[0] in first) / len(first) / CHANCE
        weights.append(weight)
        earned.append(weight * one.labels["purchase"][0])
        chance = dict(zip(table.item[0], 1 / (1 + np.exp(-found["purchase"][0])), strict=True))
        expected = np.mean([chance[item] for item in first])
        robust.append(expected + weight * (one.labels["purchase"][0] - PREDICTED))
    of = metrics.of(f"off_policy.{order}")
    assert of["purchase_inverse_propensity"].value == pytest.approx(np.mean(earned))
    assert of["purchase_doubly_robust"].value == pytest.approx(np.mean(robust), rel=1e-5)
    assert of["purchase_weight"].value == pytest.approx(np.mean(weights))
    assert of["purchase_self_normalised"].value == pytest.approx(np.sum(earned) / np.sum(weights))


def test_both_orders_are_compared_on_the_same_exposures(metrics):
    one, other = (
        metrics[f"off_policy.{order}.purchase_doubly_robust"].value
        for order in ("recommender", "retrieval")
    )
    difference = metrics["off_policy.recommender_minus_retrieval.purchase_doubly_robust"]
    assert difference.value == pytest.approx(one - other)
    assert difference.low <= difference.value <= difference.high


def test_without_propensities_nothing_is_said(trained, shown):
    data = replace(trained.data, log=replace(trained.data.log, propensity=None))
    found = Metrics()
    add_off_policy(found, replace(trained, data=data), shown, {})
    assert len(found) == 0
    assert off_policy_table(found) is None


def test_the_table_has_a_row_for_each_order(metrics):
    told = io.StringIO()
    Console(file=told, width=160).print(off_policy_table(metrics))
    for what in ("as logged", "retrieval", "recommender", "recommender minus retrieval"):
        assert what in told.getvalue()
    assert told.getvalue().count("purchase") == 4


def test_requests_are_thinned_evenly_and_keep_all_that_answered_them(shown):
    every, some = logged_requests(shown), logged_requests(shown, most=7)
    assert len(every.exposure) == len(shown)
    assert len(some.queries) == 7
    queries = shown.queries
    for number in range(7):
        answered = some.exposure[some.request == number]
        same = (queries.user == some.queries.user[number]) & (
            queries.time == some.queries.time[number]
        )
        np.testing.assert_array_equal(np.sort(answered), np.flatnonzero(same))
