"""Figures and tables of answers whose worth is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.jobs import write_json
from benchmarks.ranking import report, results
from benchmarks.ranking.contender import Answers
from benchmarks.ranking.contenders import contender
from benchmarks.ranking.contest import load_answers, of_pages, save_answers
from benchmarks.ranking.judge import Judge
from benchmarks.ranking.truth import Truth
from tandem.marketplace_truth import find_marketplace


@pytest.fixture(scope="module")
def judged(tiny, tmp_path_factory):
    """The oracle's order in the place of ours, beside the retrieval order and single tasks."""
    folder = tmp_path_factory.mktemp("answers")
    truth = Truth.of(tiny, tiny.test.candidates)
    lists, labels = tiny.test.candidates, tiny.test.exposures.labels
    right = {
        "view": 0.1 + 0.8 * labels["view"],
        "rating": np.nan_to_num(labels["rating"], nan=3.0) + 0.1,
        "purchase": np.full(len(labels["purchase"]), 0.1),
    }
    true = tiny.unselected.exposures.labels["rating"]
    wrong = {**right, "view": np.full(len(labels["view"]), 0.5), "rating": right["rating"] + 0.9}
    answers = {
        "retrieval": Answers(order=lists.retrieval_score),
        "tandem": Answers(
            order=truth.buys,
            choice=lists.label * 1.0,
            tasks=right,
            served={"purchase": -truth.buys},
            unselected={"rating": true},
        ),
        "single_task": Answers(
            order=lists.label * 1.0,
            choice=lists.label * 1.0,
            tasks=wrong,
            unselected={"rating": true + 0.5},
        ),
    }
    cost = {
        "training_seconds": 2.0, "training_rows": 100, "answer_seconds": 0.5, "answered": 50,
        "notes": {"order": "known"},
    }  # fmt: skip
    for name, given in answers.items():
        (folder / name).mkdir()
        for seed in range(1 if name == "retrieval" else 2):
            save_answers(given, folder / name / f"seed-{seed}.npz")
            save_answers(on_pages(tiny), of_pages(folder / name / f"seed-{seed}.json"))
            write_json(folder / name / f"seed-{seed}.json", cost)
    return results.compare("quick", tiny, folder=folder, models=list(answers), seeds=2)


def test_predictions_as_served_are_held_against_the_truth(tiny):
    judge = Judge(tiny)
    true = judge.truth.buys * tiny.pages.looks.mean()
    right = Answers(order=judge.truth.buys, served={"purchase": true})
    assert judge.served_deciles(right) == pytest.approx(np.ones(10))
    high = Answers(order=judge.truth.buys, served={"purchase": 1.2 * true})
    assert judge.served_deciles(high) == pytest.approx(np.full(10, 1.2))
    assert judge.served_deciles(Answers(order=judge.truth.buys)) is None


def on_pages(problem):
    """The oracle's order of the views of logged pages, and a model that expects the mean."""
    part = problem.pages.part
    views = Truth.of(problem, part.candidates).views
    mean = float(part.exposures.labels["view"].mean())
    return Answers(
        order=views,
        tasks={"view": np.full(len(part.exposures), mean)},
        served={"view": np.full(views.shape, mean)},
    )


def of(judged, name):
    return next(result for result in judged.results if result.name == name)


def test_answers_are_kept_as_they_were_given(tmp_path):
    given = Answers(np.ones((2, 3)), None, {"view": np.zeros(4)}, {"view": np.ones((2, 3))})
    given = replace(given, unselected={"rating": np.ones(5)})
    save_answers(given, tmp_path / "answers.npz")
    found = load_answers(tmp_path / "answers.npz")
    assert (found.unselected["rating"] == 1).all()
    assert found.choice is None and (found.order == 1).all()
    assert list(found.tasks) == ["view"] and found.served["view"].shape == (2, 3)


def test_the_order_that_knows_finds_every_item(judged):
    assert judged.found == 1.0
    assert of(judged, "single_task").metrics["ndcg@10"].estimate.value == 1.0
    assert of(judged, "single_task").metrics["hit_rate@10"].estimate.value == 1.0
    assert of(judged, "retrieval").metrics["ndcg@10"].estimate.value < 0.6


def test_the_oracle_closes_the_whole_gap(judged):
    gains = judged.pairs["retrieval"]
    assert gains["gap_closed"].value == pytest.approx(1.0)
    # its purchase task alone would order the other way round
    assert gains["gap_closed_by_purchase_alone"].value < 0
    best = of(judged, "tandem").metrics["expected_purchases@10"].estimate.value
    assert best > of(judged, "retrieval").metrics["expected_purchases@10"].estimate.value


def test_the_oracle_orders_by_the_true_chance_of_a_purchase(tiny):
    judge = Judge(tiny)
    answers = contender("oracle").fit(tiny, 0, True).answer(tiny.test)
    found = judge.truth.top(answers.order, judge.truth.buys)
    best = -np.sort(-np.where(judge.truth.there, judge.truth.buys, 0.0), axis=1)[:, :10]
    np.testing.assert_allclose(found, best)


def test_no_order_has_more_views_than_that_of_the_true_chances(tiny):
    judge = Judge(tiny)
    answers = contender("oracle").fit(tiny, 0, True).answer(tiny.test)
    found = {
        name: judge.per_query(replace(answers, order=order))["expected_views@10"]
        for name, order in (("views", judge.truth.views), ("purchases", judge.truth.buys))
    }
    best = -np.sort(-judge.truth.views, axis=1)[:, :10]
    np.testing.assert_allclose(found["views"], best.sum(axis=1))
    assert found["purchases"].mean() < found["views"].mean()


def test_a_choice_is_as_unlikely_as_the_logits_say(tiny):
    lists = tiny.test.candidates
    found = lists.label.any(axis=1)
    assert found.any()
    for logit in (0.0, 3.0):
        losses = Judge(tiny).per_row(Answers(choice=logit * lists.label))["retrieval_task.log_loss"]
        others = (lists.item >= 0).sum(axis=1)[found] - 1
        np.testing.assert_allclose(losses, -np.log(np.exp(logit) / (np.exp(logit) + others)))


def test_padding_is_worth_nothing(tiny):
    truth = Truth.of(tiny, tiny.test.candidates)
    assert (truth.buys[~truth.there] == 0).all()
    last = np.where(truth.there, -1.0, 9.0)
    assert truth.purchases(last) == pytest.approx(truth.purchases(np.zeros_like(last)))
    rated = truth.mean_rating(truth.rating)
    assert ((rated >= 1) & (rated <= 5)).all()


def test_gains_are_positive_where_ours_is_better(judged):
    gains = judged.pairs["single_task"]
    assert gains["view.log_loss"].low > 0
    assert gains["view.auc"].value == pytest.approx(1.0)  # 1 against 1/2
    # an error that is gone is smaller by the whole of what others make
    assert gains["rating.rmse_on_all_items"].value == pytest.approx(1.0)
    assert gains["rating.rmse"].value == pytest.approx(1 - 0.1 / 1.0, abs=1e-5)
    assert gains["purchase.log_loss"].value == pytest.approx(0.0)
    assert gains["ndcg@10"].high < 0
    assert gains["retrieval_task.ndcg@10"].value == pytest.approx(0.0)
    assert of(judged, "single_task").metrics["rating.rmse"].estimate.value == pytest.approx(1.0)


def test_seeds_that_differ_widen_intervals_and_gains(tiny, judged, tmp_path):
    """One seed's errors of ratings are three times the other's; users are the same."""
    tasks = of(judged, "tandem").answers[0].tasks
    rating = np.nan_to_num(tiny.test.exposures.labels["rating"], nan=3.0)
    cost = json.dumps(of(judged, "tandem").costs[0])
    for name, errors in (("tandem", (0.1, 0.3)), ("single_task", (0.2, 0.2))):
        (tmp_path / name).mkdir()
        for seed, error in enumerate(errors):
            given = Answers(tasks={**tasks, "rating": rating + error})
            save_answers(given, tmp_path / name / f"seed-{seed}.npz")
            (tmp_path / name / f"seed-{seed}.json").write_text(cost)
    found = results.compare(
        "quick", tiny, folder=tmp_path, models=["tandem", "single_task"], seeds=2
    )
    ours = of(found, "tandem").metrics["rating.rmse"]
    assert ours.by_seed == pytest.approx((0.1, 0.3), abs=1e-5)
    assert (ours.estimate.low, ours.estimate.high) == pytest.approx((0.1, 0.3), abs=1e-5)
    gain = found.pairs["single_task"]["rating.rmse"]
    assert (gain.low, gain.high) == pytest.approx((1 - 0.3 / 0.2, 1 - 0.1 / 0.2), abs=1e-4)


def test_calibration_errors_stand_beside_what_chance_would_show(judged):
    metrics = of(judged, "tandem").metrics
    for task in ("view", "purchase"):
        error = metrics[f"{task}.calibration_error"].estimate
        chance = metrics[f"{task}.calibration_error_if_calibrated"].estimate
        assert 0 <= error.low <= error.high
        assert 0 < chance.value < 0.2 and np.isnan(chance.low)
    assert "view.calibration_error_if_calibrated" in report.markdown(judged)


def test_orders_are_judged_on_what_was_logged(tiny, judged):
    found = of(judged, "tandem").off_policy
    assert set(found) == {"view", "purchase"}
    views = found["view"]
    assert views.estimated.doubly_robust is not None
    assert found["purchase"].estimated.doubly_robust is None  # nothing was predicted
    assert found["purchase"].truth < views.truth
    assert views.estimated.inverse_propensity.low <= views.truth
    assert views.truth <= views.estimated.inverse_propensity.high
    assert 0.5 < views.estimated.mean_weight.value < 1.5


def test_pages_have_what_the_marketplace_logged(tiny):
    pages = tiny.pages
    shown, events = pages.part.exposures.queries, find_marketplace(tiny.data.config.data).events
    log = tiny.data.log
    for row in (0, len(shown) // 2, len(shown) - 1):
        found = [
            event for event in events.to_pylist()
            if event["type"] == "impression"
            and event["user_id"] == log.user_ids[shown.user[row]]
            and event["item_id"] == log.item_ids[shown.item[row]]
            and event["timestamp"] == shown.time[row] // 1000
        ]  # fmt: skip
        assert len(found) == 1
        assert pages.propensity[row] == pytest.approx(found[0]["propensity"])
        assert (pages.looks[row] == 1.0) == (found[0]["position"] == 0)
    assert (pages.part.candidates.queries.user[pages.page] == shown.user).all()
    assert (pages.part.candidates.queries.time[pages.page] == shown.time).all()


def test_what_depends_on_no_seed_is_judged_once(judged):
    assert [len(result.costs) for result in judged.results] == [1, 2, 2]


def test_the_report_says_it_all(judged, tmp_path):
    text = report.markdown(judged)
    assert text.count("| Tandem |") == 3  # quality and cost
    assert "| Tandem, single tasks |" in text and "gap_closed" in text
    assert "self-normalised" in text
    assert "non-inferior" in text and "better in" in text and "view.log_loss" in text
    plain = json.loads(json.dumps(report.as_json(judged), allow_nan=False))
    assert plain["relative_gain_of_tandem_over"]["retrieval"]["gap_closed"]["value"] > 0.99
    report.plot([judged], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_ratings_are_held_against_what_nobody_chose(tiny, judged):
    assert of(judged, "tandem").metrics["rating.rmse_on_all_items"].estimate.value == 0.0
    high = of(judged, "single_task").metrics["rating.rmse_on_all_items"]
    assert high.estimate.value == pytest.approx(0.5)
    pairs, log = tiny.unselected.exposures, tiny.data.log
    oracle = find_marketplace(tiny.data.config.data).oracle
    for row in (0, len(pairs) - 1):
        user = oracle.user_rows(log.user_ids[pairs.queries.user[[row]]])
        item = oracle.item_rows(log.item_ids[pairs.queries.item[[row]]])
        true = oracle.expected_rating(user, item[:, np.newaxis])[0, 0]
        assert pairs.labels["rating"][row] == pytest.approx(true)
    # every item as often as every other, unlike the ones that were bought
    assert np.bincount(pairs.queries.item).min() > 0.5 * len(pairs) / len(log.item_ids)


def test_without_single_tasks_there_is_no_seesaw_to_draw(judged, tmp_path):
    alone = replace(judged, results=judged.results[:2], pairs={})
    report.plot([alone], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
    assert "non-inferior" not in report.markdown(alone)
