import dataclasses

import numpy as np
import pytest

import features.label_factors
from features.label_factors import LabelFactors, label_factors
from features.own_labels import OwnLabels

USERS, ITEMS = 60, 40


def world(*, taste=1.0, traits=False, seed=0):
    """Labels of a third of the pairs: biases, and a taste of two dimensions."""
    rng = np.random.default_rng(seed)
    bias_user, bias_item = rng.normal(0, 0.5, USERS), rng.normal(0, 0.7, ITEMS)
    vector_user, vector_item = rng.normal(size=(USERS, 2)), rng.normal(size=(ITEMS, 2))
    truth = 3.0 + bias_user[:, None] + bias_item + taste * vector_user @ vector_item.T
    known = rng.random(truth.shape) < 0.35
    labels = truth + rng.normal(0, 0.3, truth.shape)
    sides = [
        np.concatenate([side if traits else 0 * side, np.zeros((1, 2))])
        for side in (vector_user, vector_item)
    ]
    return truth, known, labels, sides


def fit(known, labels, sides):
    user, item = np.nonzero(known)
    return label_factors(user, item, labels[user, item], user_traits=sides[0], item_traits=sides[1])


def error(found, truth, where):
    user, item = np.nonzero(where)
    return np.sqrt(np.mean((found.predict(user, item) - truth[user, item]) ** 2))


def test_pairs_without_a_label_are_predicted_better_than_by_biases_alone():
    truth, known, labels, sides = world()
    found = fit(known, labels, sides)
    held = ~known
    mean = labels[known].mean()
    item = np.array([labels[known[:, i], i].mean() if known[:, i].any() else mean
                     for i in range(ITEMS)])  # fmt: skip
    by_items = np.sqrt(np.mean((np.broadcast_to(item, truth.shape)[held] - truth[held]) ** 2))
    assert error(found, truth, held) < 0.45 * by_items


def test_where_there_is_no_taste_little_is_made_up():
    truth, known, labels, sides = world(taste=0.0)
    assert error(fit(known, labels, sides), truth, ~known) < 0.2


def test_traits_predict_those_without_labels():
    truth, known, labels, sides = world(traits=True)
    known[:10] = False
    new = np.zeros_like(known)
    new[:10] = True
    with_traits = error(fit(known, labels, sides), truth, new)
    without = error(fit(known, labels, [0 * side for side in sides]), truth, new)
    assert with_traits < 0.6 * without


def test_predictions_are_in_units_of_the_labels():
    _, known, labels, sides = world()
    once, scaled = fit(known, labels, sides), fit(known, 100 + 20 * labels, sides)
    user, item = np.nonzero(~known)
    np.testing.assert_allclose(
        scaled.predict(user, item), 100 + 20 * once.predict(user, item), rtol=1e-3
    )


@pytest.mark.parametrize("labels", [np.zeros(0), np.full(200, 4.0), np.arange(10.0)])
def test_of_too_little_the_mean_is_all_there_is_to_say(labels):
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, USERS, len(labels)), rng.integers(0, ITEMS, len(labels))
    traits = np.zeros((USERS + 1, 0)), np.zeros((ITEMS + 1, 0))
    found = label_factors(user, item, labels, user_traits=traits[0], item_traits=traits[1])
    predicted = found.predict(np.array([0, -1]), np.array([3, -1]))
    np.testing.assert_allclose(predicted, labels.mean() if len(labels) else 0.0, rtol=1e-6)


def test_amounts_that_differ_by_factors_are_expected_by_factors(monkeypatch):
    truth, known, labels, sides = world(taste=0.3)
    found = fit(known, np.exp(labels), sides)
    assert found.logarithm[0] > 1  # the mean of an exponential is above that of its exponent
    monkeypatch.setattr(features.label_factors, "_log_offset", lambda label: None)
    plain = fit(known, np.exp(labels), sides)
    # log-normal noise of .3 lifts a mean by exp(.3 ** 2 / 2)
    expected = np.exp(truth + 0.045)
    assert error(found, expected, ~known) < 0.8 * error(plain, expected, ~known)


def test_an_amount_of_few_labels_far_above_the_others_is_believed():
    rng = np.random.default_rng(1)
    item = np.concatenate([rng.integers(0, 199, 4000), np.full(20, 199)])
    user = rng.integers(0, 300, len(item))
    price = np.append(rng.lognormal(0, 0.5, 199), 40.0)
    found = label_factors(
        user,
        item,
        price[item] * rng.lognormal(0, 0.1, len(item)),
        user_traits=np.zeros((301, 0)),
        item_traits=np.zeros((201, 0)),
    )
    assert found.predict(np.arange(300), np.full(300, 199)).mean() == pytest.approx(40, rel=0.2)


@pytest.mark.parametrize("amounts", [False, True], ids=["labels", "amounts"])
def test_the_next_label_of_a_pair_is_expected_to_be_like_its_earlier_ones(amounts):
    truth, known, _, sides = world(taste=0.3)
    rng = np.random.default_rng(3)
    user, item = (np.repeat(rows, 2) for rows in np.nonzero(known))
    # what the pair is like, which no vector says
    truth = truth + 0.8 * rng.normal(size=truth.shape)
    label = truth[user, item] + rng.normal(0, 0.5, len(user))
    found = label_factors(
        user, item, np.exp(label) if amounts else label, user_traits=sides[0], item_traits=sides[1]
    )
    assert (found.logarithm[0] > 0) == amounts
    rows = np.nonzero(known)
    expected = np.exp(truth + 0.5**2 / 2)[rows] if amounts else truth[rows]
    without = dataclasses.replace(found, own=OwnLabels.none())
    both, alone = (
        np.sqrt(np.mean((one.predict(*rows) - expected) ** 2)) for one in (found, without)
    )
    assert both < 0.75 * alone
    elsewhere = np.nonzero(~known)
    np.testing.assert_array_equal(found.predict(*elsewhere), without.predict(*elsewhere))


@pytest.mark.parametrize("total", [-9.0, -1.0, 0.0, 3.0])
def test_who_paid_more_than_expected_is_expected_to_pay_more_even_of_next_to_nothing(total):
    sides = np.zeros((2, 3), np.float32), np.array([[total, 0, 0]] * 2, np.float32)
    here = np.array([0])
    less, as_others, more = (
        LabelFactors(
            *sides,
            logarithm=(1.1, 0.5),
            own=OwnLabels(here.astype(np.int64), np.array([own], np.float32)),
        ).predict(here, here)[0]
        for own in (-0.5, 0.0, 0.5)
    )
    # below an expectation of 0 too, from which the offset was taken off
    assert less < as_others < more


@pytest.mark.parametrize(
    "labels",
    [
        np.tile([1.0, 0.0, 0.0, 0.0], 50),
        np.tile([5.0, 5.0, 4.0, 1.0], 50),
        np.tile([-1.0, 0.0, 0.0, 9.0], 50),
        np.tile([0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 20.0, 0.0, 20.0, 60.0], 20),
    ],
    ids=["binary", "ratings", "negative", "mostly 0"],
)
def test_other_labels_stay_on_their_own_scale(labels):
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, USERS, 200), rng.integers(0, ITEMS, 200)
    found = label_factors(
        user,
        item,
        labels,
        user_traits=np.zeros((USERS + 1, 0)),
        item_traits=np.zeros((ITEMS + 1, 0)),
    )
    assert found.logarithm == (0.0, 0.0)


def test_of_rare_chances_the_mean_is_all_there_is_to_say():
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 2000, 60_000), rng.integers(0, 500, 60_000)
    label = (rng.random(60_000) < 0.005).astype(float)
    traits = rng.normal(size=(2001, 4)), rng.normal(size=(501, 4))
    found = label_factors(user, item, label, user_traits=traits[0], item_traits=traits[1])
    np.testing.assert_allclose(found.predict(user, item), label.mean(), rtol=1e-5)


def test_labels_that_are_fully_explained_are_predicted():
    rng = np.random.default_rng(6)
    user, item = rng.integers(0, 5, 500), rng.integers(0, 14, 500)
    label = (user % 2).astype(float)
    found = label_factors(
        user,
        item,
        label,
        user_traits=rng.normal(size=(6, 1)),
        item_traits=rng.normal(size=(15, 2)),
    )
    np.testing.assert_allclose(found.predict(user, item), label, atol=0.02)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["step of item", "amount of item", "one of a user", "sum of both"])
def test_labels_without_noise_are_predicted(kind, seed):
    """Their error is cancellation alone: 0, or below."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 200, 20_000), rng.integers(0, 100, 20_000)
    label = {
        "step of item": np.round(rng.normal(10, 3, 100), 2)[item],
        "amount of item": rng.lognormal(1, 0.7, 100)[item],
        "one of a user": rng.integers(1, 6, 200)[user].astype(float),
        "sum of both": rng.normal(3, 1, 200)[user] + rng.normal(size=100)[item],
    }[kind]
    found = label_factors(
        user, item, label, user_traits=np.zeros((201, 0)), item_traits=np.zeros((101, 0))
    )
    np.testing.assert_allclose(found.predict(user, item), label, atol=0.001 * label.std())


def test_the_same_labels_give_the_same_factors():
    _, known, labels, sides = world()
    one, two = fit(known, labels, sides), fit(known, labels, sides)
    np.testing.assert_array_equal(one.user, two.user)
    np.testing.assert_array_equal(one.item, two.item)
