"""Off-policy estimates: right answers by hand, robustness, and intervals that hold the truth."""

import numpy as np
import pytest

from evaluation.off_policy import (
    FEW,
    Logged,
    RewardModel,
    doubly_robust_values,
    judge_policy,
    uniform_over_top,
)
from interactions.errors import UserError
from interactions.marketplace import MarketplaceConfig, generate
from interactions.marketplace.policy import REFRESH_DAYS
from interactions.marketplace.sessions import IMPRESSION, PURCHASE, VIEW, simulate
from interactions.marketplace.world import DAY, START, examination

ACTIONS = 5


def draw(rng, rows, *, users=None):
    """Rows whose reward depends on context and action; the judged policy prefers the last action.

    Returns what was logged, a perfect model of the reward, users, and the true value.
    """
    context = rng.random(rows)
    chance = (0.1 + 0.6 * context[:, None]) * np.linspace(0.3, 1.0, ACTIONS)
    logging = np.tile([0.4, 0.3, 0.15, 0.1, 0.05], (rows, 1))
    target = np.tile([0.0, 0.1, 0.1, 0.2, 0.6], (rows, 1))
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    at = np.arange(rows), action
    reward = (rng.random(rows) < chance[at]).astype(float)
    logged = Logged(reward, logging[at], target[at])
    model = RewardModel(chance[at], (target * chance).sum(axis=1))
    truth = 0.4 * float(target[0] @ np.linspace(0.3, 1.0, ACTIONS))
    return logged, model, rng.integers(0, users or rows, rows), truth


def test_small_figures_by_hand():
    logged = Logged(np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.25]), np.array([1.0, 0.5, 0]))
    found = judge_policy(logged, seed=0)
    assert found.inverse_propensity.value == pytest.approx(2 / 3)  # weights 2, 1, 0
    assert found.self_normalised.value == pytest.approx(2 / 3)
    assert found.doubly_robust is None
    assert found.effective_rows == pytest.approx(9 / 5)
    assert found.largest_weight == 2.0
    assert found.is_thin and FEW > 2


def test_the_logging_policy_itself_earns_what_was_logged():
    logged, model, _, _ = draw(np.random.default_rng(0), 500)
    itself = Logged(logged.reward, logged.propensity, logged.propensity)
    found = judge_policy(itself, model=RewardModel(model.logged, model.logged), seed=0)
    for estimate in (found.inverse_propensity, found.self_normalised, found.doubly_robust):
        assert estimate.value == pytest.approx(logged.reward.mean())
    assert found.effective_rows == pytest.approx(500)


@pytest.mark.parametrize("broken", ["model", "propensity"])
def test_doubly_robust_is_right_if_either_model_or_propensities_are(broken):
    logged, model, _, truth = draw(np.random.default_rng(1), 100_000)
    if broken == "model":
        model = RewardModel(np.full(len(model.logged), 0.9), np.full(len(model.logged), 0.9))
    else:
        logged = Logged(logged.reward, np.full(len(logged.reward), 0.2), logged.target)
        wrong = judge_policy(logged, seed=0).inverse_propensity
        assert abs(wrong.value - truth) > 0.05
    assert doubly_robust_values(logged, model).mean() == pytest.approx(truth, abs=0.01)


def test_a_good_model_makes_the_interval_shorter():
    logged, model, _, _ = draw(np.random.default_rng(2), 2_000)
    found = judge_policy(logged, model=model, seed=0)
    width = {
        name: getattr(found, name).high - getattr(found, name).low
        for name in ("inverse_propensity", "self_normalised", "doubly_robust")
    }
    assert width["doubly_robust"] < width["self_normalised"] < width["inverse_propensity"]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = {"inverse_propensity": 0, "self_normalised": 0, "doubly_robust": 0}
    rounds = 200
    for _ in range(rounds):
        logged, model, user, truth = draw(rng, 600, users=150)
        found = judge_policy(logged, model=model, clusters=user, seed=0, resamples=400)
        for name in held:
            estimate = getattr(found, name)
            held[name] += estimate.low <= truth <= estimate.high
    # 95 % give or take three standard errors of 200 rounds
    assert all(0.90 <= count / rounds <= 0.99 for count in held.values()), held


def test_the_uniform_policy_over_the_top_gives_each_its_share():
    ranked = np.array([[3, 1, 2], [3, -1, -1], [-1, -1, -1], [0, 1, 2]])
    found = uniform_over_top(ranked, np.array([1, 3, 0, 2]), k=2)
    np.testing.assert_allclose(found, [0.5, 1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("reward", "propensity", "target", "named"),
    [
        ([1.0], [0.0], [0.5], "propensity: found 0.0"),
        ([1.0], [1.5], [0.5], "propensity: found 1.5"),
        ([1.0], [np.nan], [0.5], "propensity: found nan"),
        ([1.0], [0.5], [-0.1], "target: found -0.1"),
        ([np.nan], [0.5], [0.5], "reward: found NaN"),
    ],
)
def test_impossible_probabilities_are_named(reward, propensity, target, named):
    with pytest.raises(UserError, match=named):
        Logged(np.array(reward), np.array(propensity), np.array(target))


@pytest.mark.slow
def test_on_the_marketplace_intervals_hold_the_true_value_of_another_policy():
    """One world, many logs of it: every time the value of a page of taste is estimated."""
    config = MarketplaceConfig(users=200, items=40, events=6_000, days=60, categories=4)
    oracle = generate(config).oracle
    rounds, held, errors, weights = 30, {"inverse_propensity": 0, "self_normalised": 0}, [], []
    for seed in range(rounds):
        log = simulate(oracle, config, np.random.default_rng([9, seed]))
        shown, reward, ranked, truth = _judged(oracle, log)
        logged = Logged(reward, shown["propensity"], uniform_over_top(ranked, shown["item"], k=5))
        found = judge_policy(logged, clusters=shown["user"], seed=0)
        errors.append(found.inverse_propensity.value / truth - 1)
        for name in held:
            estimate = getattr(found, name)
            held[name] += estimate.low <= truth <= estimate.high
        weights.append(found.mean_weight.value)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(rounds)  # without bias
    assert np.mean(weights) == pytest.approx(1.0, abs=0.02)
    assert all(count / rounds >= 0.88 for count in held.values()), held


def _judged(oracle, log):
    """Impressions, whether each was viewed, the judged policy's order, and its true mean value.

    The judged policy orders by the true taste what the logging policy could have shown there.
    """
    rows = log.rows
    at = np.flatnonzero(rows.type == IMPRESSION)
    at = at[np.lexsort((rows.position[at], rows.session[at]))]
    shown = {
        name: getattr(rows, name)[at]
        for name in ("user", "item", "time", "session", "position", "propensity")
    }
    viewed = rows.session[rows.type == VIEW] * 1_000 + rows.item[rows.type == VIEW]
    reward = np.isin(shown["session"] * 1_000 + shown["item"], viewed).astype(float)
    likes = oracle.view_probability(shown["user"], None, shown["time"])
    first = np.flatnonzero(np.r_[True, np.diff(shown["session"]) != 0])
    # new items are first shown in the week after their launch
    week = REFRESH_DAYS * DAY
    open_ = (
        oracle.view_probability(shown["user"], None, START + (shown["time"] - START) // week * week)
        > 0
    )
    start = np.repeat(first, np.diff(np.r_[first, len(at)]))
    for row in np.flatnonzero(shown["position"] > 0):
        open_[row, shown["item"][start[row] : row]] = False
    open_ &= ~_bought_before(rows, shown, items=likes.shape[1])
    score = np.where(open_, oracle.world.affinity(shown["user"], None), -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")[:, :5]
    ranked = np.where(np.take_along_axis(score, order, axis=1) > -np.inf, order, -1)
    looks = examination(shown["position"], log.device[at])
    there = ranked >= 0
    value = np.where(there, np.take_along_axis(likes, np.maximum(ranked, 0), axis=1), 0.0)
    truth = float((looks * value.sum(axis=1) / np.maximum(there.sum(axis=1), 1)).mean())
    return shown, reward, ranked, truth


def _bought_before(rows, shown, *, items):
    """[impressions, items] bool: bought by the time; the policy never shows those again."""
    result = np.zeros((len(shown["user"]), items), bool)
    sold = np.flatnonzero(rows.type == PURCHASE)
    for row in sold:
        later = (shown["user"] == rows.user[row]) & (shown["time"] >= rows.time[row])
        result[later, rows.item[row]] = True
    return result
