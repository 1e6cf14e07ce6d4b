"""Orders of a ranker's predictions: given weights, and learned ones written into the run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from features.backend import tf
from interactions.candidates import Candidates, Exposures
from interactions.queries import Queries
from ranking.config import LOGGING_POLICY
from ranking.order_objective import OrderObjective
from ranking.ordering import choose_order, validation_lists

QUERIES, WIDTH = 200, 20
TELLING = ("rating", "purchase")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    items = np.tile(np.arange(WIDTH, dtype=np.int32), (QUERIES, 1))
    rows = np.arange(QUERIES)
    chosen = rng.integers(0, WIDTH, QUERIES).astype(np.int32)
    asked = Queries(rows, rows.astype(np.int32), rows, chosen)
    return Candidates(asked, items, np.zeros(items.shape), np.zeros(items.shape))


@pytest.fixture(scope="module")
def predictions(table):
    rng = np.random.default_rng(2)
    noise = [rng.normal(size=table.item.shape) for _ in range(3)]
    found = {
        "retrieval": noise[0] + 2.0 * table.label,
        "rating": 3.0 + noise[1],
        "purchase": noise[2] - 2.0,
    }
    return {task: values.astype(np.float32) for task, values in found.items()}


def test_weights_that_were_given_are_kept(trained_system, table):
    order = choose_order(
        trained_system.ranker, table, {}, weights={"rating": 0.25}, telling=TELLING
    )
    assert order.weights == {"retrieval": 0.0, "rating": 0.25, "purchase": 0.0}


def test_learned_weights_order_as_the_search_had_measured(trained_system, table, predictions):
    order = choose_order(trained_system.ranker, table, predictions, weights=None, telling=TELLING)
    assert order.weights["purchase"] > 0
    lists = validation_lists(trained_system.ranker, table, predictions)
    summed = sum(order.weights[task] * lists.utility[task] for task in lists.utility)
    np.testing.assert_allclose(order.score(predictions).numpy(), summed, atol=1e-4)


def test_a_task_of_which_validation_tells_nothing_does_not_order(
    trained_system, table, predictions, tmp_path
):
    """The likeliest to be maximised by its low mean, if its labels were not all 0."""
    labels = {"purchase": np.zeros(9), "rating": np.arange(9.0), "none": np.full(9, np.nan)}
    shown = Exposures(table.queries, np.zeros(9), labels)
    assert shown.telling == ("rating",)
    order = choose_order(
        trained_system.ranker, table, predictions, weights=None, telling=shown.telling,
        folder=tmp_path,
    )  # fmt: skip
    assert order.weights["purchase"] == 0.0
    assert json.loads((tmp_path / "order.json").read_text())["maximised"] == ["rating"]
    asked = OrderObjective(maximise="purchase", ndcg_cost=0.5)
    named = choose_order(
        trained_system.ranker, table, predictions, weights=None, telling=(), objective=asked
    )
    assert named.weights["purchase"] > 0


def test_probabilities_and_labels_are_told_apart(trained_system, table, predictions):
    lists = validation_lists(trained_system.ranker, table, predictions)
    chance = 1 / (1 + np.exp(-predictions["purchase"]))
    np.testing.assert_allclose(lists.outcome["purchase"], chance, atol=1e-5)
    assert lists.scale["purchase"] is None
    assert lists.scale["rating"] > 0
    assert "retrieval" not in lists.outcome


def test_what_was_learned_is_in_the_run(trained_system, table, predictions, tmp_path):
    order = choose_order(
        trained_system.ranker, table, predictions, weights=None, telling=TELLING, folder=tmp_path
    )
    kept = json.loads((tmp_path / "order.json").read_text())
    assert kept["weights"] == order.weights
    assert (
        kept["mean prediction"]["chosen"]["purchase"]
        > kept["mean prediction"]["retrieval task alone"]["purchase"]
    )
    assert (tmp_path / "plots" / "order.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_achieved_is_said(trained_system, table, predictions):
    console = Console(record=True, width=200)
    choose_order(
        trained_system.ranker, table, predictions, weights=None, telling=TELLING,
        objective=OrderObjective(at_least={"rating": 99.0}), console=console,
    )  # fmt: skip
    assert "ranking.objective: the mean rating" in console.export_text()


def knowing(ranker, log_shown):
    """What stands for a ranker that knows how likely each item [items] was to be shown."""
    return SimpleNamespace(
        tasks=ranker.tasks,
        inputs=ranker.inputs,
        past=SimpleNamespace(factorised=(LOGGING_POLICY,)),
        expected=lambda users, items: {LOGGING_POLICY: tf.gather(log_shown, items)},
    )


def test_lists_hold_what_the_policy_would_show(trained_system, table, predictions):
    ranker = trained_system.ranker
    assert validation_lists(ranker, table, predictions).log_shown is None
    falling = -0.1 * np.arange(WIDTH, dtype=np.float32)
    found = validation_lists(knowing(ranker, falling), table, predictions).log_shown
    np.testing.assert_array_equal(found, falling[table.item])
    alike = np.full(WIDTH, -0.7, np.float32)
    assert validation_lists(knowing(ranker, alike), table, predictions).log_shown is None


def test_the_run_says_how_finds_were_counted(trained_system, table, predictions, tmp_path):
    ranker = trained_system.ranker
    falling = -0.1 * np.arange(WIDTH, dtype=np.float32)
    for name, one in (("alike", ranker), ("by worth", knowing(ranker, falling))):
        folder = tmp_path / name
        folder.mkdir()
        choose_order(one, table, predictions, weights=None, telling=TELLING, folder=folder)
    said = [
        json.loads((tmp_path / name / "order.json").read_text())["ndcg"]
        for name in ("alike", "by worth")
    ]
    assert [one["each chosen item counts"] for one in said] == [
        "1", "one over the chance that it was shown",
    ]  # fmt: skip
    assert [one["share that may be lost"] for one in said] == [0.01, 0.01]
    assert said[1]["effective hits"] <= said[0]["effective hits"]
