import numpy as np
import pytest

from features.label_factors import label_factors

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


def test_the_same_labels_give_the_same_factors():
    _, known, labels, sides = world()
    one, two = fit(known, labels, sides), fit(known, labels, sides)
    np.testing.assert_array_equal(one.user, two.user)
    np.testing.assert_array_equal(one.item, two.item)
