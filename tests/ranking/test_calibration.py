"""Calibration finds a known distortion, keeps the order, and leaves alone what it cannot judge."""

import numpy as np
import pytest

from features.backend import tf
from interactions.errors import UserError
from ranking.calibration import (
    AS_IT_IS,
    Affine,
    Blend,
    Isotonic,
    calibrators_of,
    fit_blend,
    fit_calibrator,
    load_calibration,
    save_calibration,
)

SIZE = 20_000


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    true = rng.normal(-1.5, 1.5, SIZE)
    label = (rng.random(SIZE) < sigmoid(true)).astype(float)
    return true, label, rng.integers(0, 500, SIZE)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def applied(calibrator, values):
    return calibrator(tf.constant(values, tf.float32)).numpy()


def worst_decile(prediction, label):
    """Largest relative error of the mean prediction in a decile of prediction."""
    parts = np.array_split(np.argsort(prediction), 10)
    return max(abs(prediction[p].mean() / label[p].mean() - 1) for p in parts)


@pytest.mark.parametrize("method", ["platt", "isotonic", "auto"])
def test_a_logit_that_is_too_sure_comes_back(world, method):
    true, label, users = world
    found = fit_calibrator(2.5 * true + 1.0, label, users, kind="binary", method=method)
    calibrated = sigmoid(applied(found, 2.5 * true + 1.0))
    assert worst_decile(sigmoid(2.5 * true + 1.0), sigmoid(true)) > 0.5
    assert worst_decile(calibrated, sigmoid(true)) < (0.1 if method != "isotonic" else 0.25)
    if method == "platt":
        assert (found.scale, found.offset) == (
            pytest.approx(0.4, rel=0.05),
            pytest.approx(-0.4, abs=0.1),
        )


def test_only_isotonic_regression_bends(world):
    """A distortion that is no straight line: `auto` takes the one that can follow it."""
    true, label, users = world
    bent = np.sign(true) * true**2
    fits = {
        method: fit_calibrator(bent, label, users, kind="binary", method=method)
        for method in ("platt", "isotonic", "auto")
    }
    error = {
        method: np.abs(sigmoid(applied(found, bent)) - sigmoid(true)).mean()
        for method, found in fits.items()
    }
    assert error["isotonic"] < 0.5 * error["platt"]
    assert isinstance(fits["auto"], Isotonic)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_what_was_told_apart_stays_so_and_in_order(world, kind):
    true, label, users = world
    found = fit_calibrator(true, label, users, kind=kind, method="isotonic")
    grid = np.linspace(-12, 12, 4001)
    values = applied(found, grid)
    assert (np.diff(values) > -1e-5).all()
    assert (np.diff(values) > 0).mean() > 0.95


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_equal_predictions_become_the_mean_of_their_labels(kind):
    """Whatever the order in which the log has them."""
    levels, rates = np.array([-2.0, -1.0, 0.0]), np.array([0.12, 0.28, 0.51])
    which = np.random.default_rng(0).integers(0, 3, SIZE)
    label = (np.random.default_rng(1).random(SIZE) < rates[which]).astype(float)
    users = np.arange(SIZE)
    found = fit_calibrator(levels[which], label, users, kind=kind, method="isotonic")
    value = applied(found, levels)
    told = sigmoid(value) if kind == "binary" else value
    np.testing.assert_allclose(told, [label[which == n].mean() for n in range(3)], atol=0.002)
    np.testing.assert_allclose(told, rates, atol=0.02)
    alike = applied(fit_calibrator(0 * label, label, users, kind=kind, method="isotonic"), [0.0])
    told = sigmoid(alike) if kind == "binary" else alike
    np.testing.assert_allclose(told, label.mean(), rtol=1e-4)


def test_equal_predictions_weigh_what_their_labels_do():
    """Labels of half the exactness count a quarter."""
    prediction = np.repeat([1.0, 2.0], [300, 100])
    label = np.concatenate([np.tile([1.0, 3.0], 150), np.tile([5.0, 5.0], 50)])
    spread = np.where(label == 3.0, 2.0, 1.0)
    found = fit_calibrator(
        prediction, label, np.arange(400), kind="regression", method="isotonic", spread=spread
    )
    # one label at the mean of all is hardly seen
    np.testing.assert_allclose(applied(found, [1.0, 2.0]), [1.4, 5.0], atol=0.05)


def test_a_regression_that_is_too_high_comes_back():
    rng = np.random.default_rng(1)
    true = rng.normal(3.5, 0.6, 4000)
    label, users = true + rng.normal(0, 0.5, 4000), rng.integers(0, 300, 4000)
    for method in ("platt", "isotonic", "auto"):
        found = fit_calibrator(2 * true + 1, label, users, kind="regression", method=method)
        assert np.abs(applied(found, 2 * true + 1) - true).mean() < 0.1


@pytest.mark.parametrize("method", ["platt", "isotonic", "auto"])
def test_a_few_large_amounts_do_not_decide_how_all_are_calibrated(method):
    errors = {"all alike": [], "in proportion": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        # one in fifty is a fill-up, as uncertain as it is large
        true = rng.lognormal(0.7, 0.4, 3000) * np.where(rng.random(3000) < 0.02, 15, 1)
        label = true * rng.lognormal(-(0.8**2) / 2, 0.8, 3000)
        users = rng.integers(0, 300, 3000)
        for name, spread in (("all alike", None), ("in proportion", true + 0.5)):
            found = fit_calibrator(
                2 * true, label, users, kind="regression", method=method, known=true, spread=spread
            )
            given = (tf.constant(2 * true, tf.float32), tf.constant(true, tf.float32))
            value = (found(*given) if isinstance(found, Blend) else found(given[0])).numpy()
            off = np.abs(value / true - 1)
            # those that weigh next to nothing are not given up either
            assert name == "all alike" or off[true > 20].mean() < 0.5
            errors[name].append(np.mean(off))
    if method != "isotonic":  # a block of a few large amounts decides on itself only
        assert np.mean(errors["in proportion"]) < 0.6 * np.mean(errors["all alike"])
    assert np.mean(errors["in proportion"]) < 0.1


def test_what_is_calibrated_stays_as_it_is_or_almost(world):
    true, label, users = world
    found = fit_calibrator(true, label, users, kind="binary", method="auto")
    assert np.abs(sigmoid(applied(found, true)) - sigmoid(true)).mean() < 0.01


@pytest.mark.parametrize(
    "label",
    [
        np.zeros(SIZE), np.ones(SIZE), np.full(SIZE, np.nan),
        np.where(np.arange(SIZE) < 10, 1.0, np.nan),
    ],
)  # fmt: skip
def test_labels_of_one_class_or_next_to_none_change_nothing(world, label):
    for kind in ("binary", "regression"):
        for method in ("platt", "isotonic", "auto"):
            found = fit_calibrator(world[0], label, world[2], kind=kind, method=method)
            assert found == AS_IT_IS
    assert applied(AS_IT_IS, [[1.0, -2.0]]).tolist() == [[1.0, -2.0]]


def test_none_is_none(world):
    found = fit_calibrator(3 * world[0], world[1], world[2], kind="binary", method="none")
    assert found == AS_IT_IS


def test_between_the_centres_the_lines_are_straight_and_beyond_them_of_slope_1():
    lines = Isotonic((-1.0, 0.0, 2.0), (0.0, 0.5, 4.5))
    found = applied(lines, [[-3.0, -1.0, -0.5], [1.0, 2.0, 5.0]])
    np.testing.assert_allclose(found, [[-2.0, 0.0, 0.25], [2.5, 4.5, 7.5]], atol=1e-5)
    one = Isotonic((1.0,), (2.0,))
    np.testing.assert_allclose(applied(one, [0.0, 1.0, 3.0]), [1.0, 2.0, 4.0])


def test_written_and_read_it_is_the_same(world, tmp_path):
    calibrators = {
        "buy": fit_calibrator(world[0], world[1], world[2], kind="binary", method="isotonic"),
        "rating": Affine(0.9, 0.1),
    }
    save_calibration(calibrators, tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == calibrators


def test_what_cannot_be_read_is_said(tmp_path):
    file = tmp_path / "calibration.json"
    for content in (None, "{", "[1]", '{"buy": {"slope": 1}}'):
        if content is not None:
            file.write_text(content)
        with pytest.raises(UserError, match="train the ranker anew"):
            load_calibration(file)
    assert calibrators_of({}) == {}


def choices(*, own, score, queries=3000, width=12, seed=0):
    """Lists of which items are chosen by `own` times one number and `score` times another."""
    rng = np.random.default_rng(seed)
    logit, other = rng.normal(size=(2, queries, width))
    there = rng.random(logit.shape) < 0.9
    wanted = np.where(there, own * logit + score * other + rng.gumbel(size=logit.shape), -np.inf)
    chosen = (np.arange(width) == wanted.argmax(axis=1)[:, None]) & there
    return logit, other, chosen, there


@pytest.mark.parametrize(("own", "score"), [(1.0, 0.0), (0.3, 0.9), (0.0, 2.0)])
def test_a_blend_finds_what_logit_and_score_say(own, score):
    found = fit_blend(*choices(own=own, score=score))
    assert found.own == pytest.approx(own, abs=0.08)
    assert found.known == pytest.approx(score, abs=0.08)
    both = found(tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 5.0]]))
    expected = found.own * np.array([1, 2]) + found.known * np.array([3, 5])
    np.testing.assert_allclose(both[0], expected, rtol=1e-5)


def test_no_part_of_a_blend_is_turned_round():
    found = fit_blend(*choices(own=1.0, score=-0.5))
    assert found.known == 0.0 and found.own > 0.5


def test_of_too_few_choices_no_blend_is_learnt():
    logit, score, chosen, there = choices(own=0.1, score=2.0)
    chosen[40:] = False
    assert fit_blend(logit, score, chosen, there) == Blend()


def test_what_the_factors_expect_counts_as_far_as_it_tells():
    rng = np.random.default_rng(2)
    true, known = rng.normal(3.5, 0.6, 4000), rng.normal(3.5, 0.6, 4000)
    users, noise = rng.integers(0, 300, 4000), rng.normal(0, 0.3, 4000)
    for share in (0.0, 0.4, 1.0):
        label = (1 - share) * true + share * known + noise
        found = fit_calibrator(true, label, users, kind="regression", method="auto", known=known)
        if share:
            assert found.own == pytest.approx(1 - share, abs=0.03)
            assert found.known == pytest.approx(share, abs=0.03)
        else:  # what tells nothing is left out, or next to it
            assert getattr(found, "known", 0.0) == pytest.approx(0.0, abs=0.03)
    against = fit_calibrator(
        true, true - 0.5 * known + noise, users, kind="regression", method="auto", known=known
    )
    assert getattr(against, "known", 0.0) == 0.0


def test_a_blend_is_kept_with_the_others(tmp_path):
    kept = {
        "retrieval": Blend(0.5, 1.25),
        "rating": Blend(0.5, 0.25, 1.0),
        "view": Affine(2.0, 1.0),
        "buy": Isotonic((0.0,), (1.0,)),
    }
    save_calibration(kept, tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == kept


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_what_is_predicted_apart_stays_apart(kind):
    """Small blocks at the ends are drawn to the mean, past their neighbours: they become one."""
    rng = np.random.default_rng(4)
    predicted = rng.normal(size=4000)
    label = (rng.random(4000) < 1 / (1 + np.exp(-predicted))).astype(float)
    if kind == "regression":
        label = label + rng.normal(0, 0.1, 4000)
    found = fit_calibrator(predicted, label, np.arange(4000), kind=kind, method="isotonic")
    assert (np.diff(found.at) > 0).all() and (np.diff(found.value) > 0).all()
    assert len(found.at) > 10


def test_rare_events_stay_apart():
    """A part of a hundred thousandth is no equal of another ten times as likely."""
    rng = np.random.default_rng(4)
    predicted = rng.normal(-9, 1.5, 400_000)
    label = (rng.random(400_000) < 1 / (1 + np.exp(-predicted))).astype(float)
    found = fit_calibrator(predicted, label, np.arange(400_000), kind="binary", method="isotonic")
    assert found.value[0] < -9.3 and (np.diff(found.value) > 0).all()
