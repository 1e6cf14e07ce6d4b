"""The baselines of ranking: known answers, and columns that know what they may."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.ranking.baselines.columns import Columns
from benchmarks.ranking.baselines.factorisation import PENALTIES, Setting, factorise, tune
from benchmarks.ranking.baselines.simple import CONSTANT, ITEM_MEAN, training_labels
from benchmarks.ranking.baselines.trees import TREES, _calibrated, _Known
from interactions.errors import UserError
from interactions.split import RANKING, RETRIEVAL
from tandem.data import ITEM_ID, USER_ID


def planted(rng, *, users=150, items=60, factors=2):
    """Labels of a known bias of each user and item and a known product, without noise."""
    user, item = rng.normal(size=(users, 1 + factors)), rng.normal(size=(items, 1 + factors))
    labels = 3.0 + user[:, :1] + item[:, 0] + user[:, 1:] @ item[:, 1:].T
    known = rng.random(labels.shape) < 0.5
    return labels, known


def test_factorisation_finds_what_was_planted():
    labels, known = planted(np.random.default_rng(0))
    row, column = np.nonzero(known)
    given = csr_matrix((labels[row, column], (row, column)), shape=labels.shape)
    options = {"user": 0.1, "item": 0.1, "vector": 0.1}
    user, item = np.nonzero(~known)
    errors = {
        factors: np.std(
            factorise(given, Setting(factors, **options), seed=0).predict(user, item)
            - labels[user, item]
        )
        for factors in (0, 2)
    }
    assert errors[2] < 0.2 * errors[0] < 0.2 * 1.1 * labels.std()


def test_an_unlabelled_user_gets_what_holds_for_everyone():
    labels = csr_matrix((np.full(20, 4.0), (np.arange(20) % 4, np.arange(20) // 4)), shape=(6, 5))
    factors = factorise(labels, Setting(2), seed=0)
    np.testing.assert_allclose(factors.predict(np.array([5]), np.array([0])), 4.0, atol=1e-6)


def test_tuned_factorisation_loses_nothing_to_item_means_where_those_are_best():
    rng = np.random.default_rng(1)
    users, items, labelled = 400, 50, 3
    user = np.repeat(np.arange(users), labelled)
    item = np.concatenate([rng.permutation(items)[:labelled] for _ in range(users)])
    label = 3.0 + rng.normal(size=items)[item] + 0.8 * rng.normal(size=len(item))
    part = rng.permutation(len(item)) % 4  # two quarters are learnt from
    given, held, asked = part > 1, part == 1, part == 0
    matrix = csr_matrix((label[given], (user[given], item[given])), shape=(users, items))

    def error(setting, rows=held):
        found = factorise(matrix, setting, seed=0).predict(user[rows], item[rows])
        return np.square(found - label[rows]).mean()

    total = np.bincount(item[given], label[given] - label[given].mean(), minlength=items)
    count = np.bincount(item[given], minlength=items)
    means = label[given].mean() + total / (count + 1.0)
    best = tune(error)
    assert best.user > best.item
    assert error(best, asked) <= 1.01 * np.square(means[item[asked]] - label[asked]).mean()
    # one penalty for both, as a grid without this freedom has it, does lose
    both = [Setting(0, user=value, item=value) for value in PENALTIES]
    assert error(best, asked) < 0.98 * error(min(both, key=error), asked)


def test_tuning_finds_a_bowl_s_ground_wherever_it_lies():
    for ground in (Setting(0, 0.1, 1e6), Setting(16, 100.0, 0.3, 1.0), Setting(4, 3.0, 3.0, 100.0)):

        def error(setting, ground=ground):
            apart = abs(setting.factors - ground.factors)
            for name in ("user", "item", "vector"):
                if ground.factors or name != "vector":
                    apart += np.log(getattr(setting, name) / getattr(ground, name)) ** 2
            return apart

        found = tune(error)
        assert replace(found, vector=ground.vector) == ground
        assert not ground.factors or found == ground


def test_means_are_those_of_the_training_windows(tiny):
    labels = training_labels(tiny)["view"][1]
    found = CONSTANT.fit(tiny, 0, False).answer(tiny.test).tasks["view"]
    np.testing.assert_allclose(found, labels.mean())
    by_item = ITEM_MEAN.fit(tiny, 0, False).answer(tiny.test).tasks["view"]
    assert 0 <= by_item.min() < labels.mean() < by_item.max() <= 1


@pytest.fixture(scope="module")
def columns(tiny):
    return Columns.known_from(tiny, RETRIEVAL)


def test_columns_of_a_pair_are_those_of_the_pair_alone(tiny, columns):
    lists = tiny.test.candidates.take(np.arange(6))
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    np.testing.assert_array_equal(table[..., 0], lists.retrieval_score)
    for query in (0, 5):
        index = np.array([query])
        alone = columns.table(
            lists.queries.take(index), lists.item[index, 3:4], lists.retrieval_score[index, 3:4]
        )
        np.testing.assert_allclose(alone[0, 0], table[query, 3], atol=1e-5)


def test_the_second_column_counts_what_was_chosen_before(tiny, columns):
    lists = tiny.test.candidates.take(np.arange(20))
    history = tiny.data.histories.before(
        lists.queries.user, lists.queries.time, length=tiny.data.config.ranking.history
    )
    wanted = (lists.item[:, :, None] == history.items[:, None, :]).sum(axis=2)
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    real = lists.item >= 0
    np.testing.assert_array_equal(table[..., 1][real], wanted[real])


def test_what_labels_say_of_a_pair_is_among_the_columns(tiny, columns):
    """The ranker is given it, so trees are too, from the windows that they may know."""
    factors = tiny.data.label_factors(RETRIEVAL)
    assert {"rating", "purchase", "view"} <= set(factors)
    lists = tiny.test.candidates.take(np.arange(20))
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    users = np.broadcast_to(lists.queries.user[:, np.newaxis], lists.item.shape)
    for one in factors.values():
        wanted = one.predict(users.ravel(), lists.item.ravel()).reshape(lists.item.shape)
        assert np.ptp(wanted) > 0
        assert np.isclose(table, wanted[..., np.newaxis], atol=1e-5).all(axis=(0, 1)).any()


def test_columns_know_the_windows_they_are_told_and_no_others(tiny, columns):
    late = Columns.known_from(tiny, RETRIEVAL, RANKING)
    assert (late.statistics.item != columns.statistics.item).any()
    assert (columns.statistics.item == tiny.data.statistics(RETRIEVAL).item).all()


def test_codes_are_where_the_columns_say(tiny, columns):
    lists = tiny.test.candidates.take(np.arange(30))
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    specs = [
        (entity, spec)
        for entity, name in ((tiny.encoded.items, ITEM_ID), (tiny.encoded.users, USER_ID))
        for spec in entity.specs
        if spec.kind in ("categorical", "categories") and spec.name != name and spec.size <= 255
    ]
    rows = {id(tiny.encoded.items): lists.item, id(tiny.encoded.users): lists.queries.user[:, None]}
    places = iter(columns.codes)
    for entity, spec in specs:
        every = entity.arrays[spec.name].reshape(len(entity.arrays[spec.name]), -1)
        kept = every[:, :3] if entity is tiny.encoded.items else every
        for code in kept.T:
            wanted = np.broadcast_to(code[rows[id(entity)]], lists.item.shape)
            np.testing.assert_array_equal(table[..., next(places)], wanted)
    assert specs


@pytest.mark.slow
def test_trees_answer_for_everything(tiny):
    found = TREES.fit(tiny, 0, True).answer(tiny.test)
    assert found.order.shape == tiny.test.candidates.item.shape
    assert set(found.tasks) == {"rating", "purchase", "view"}
    assert all(((found.tasks[t] >= 0) & (found.tasks[t] <= 1)).all() for t in ("purchase", "view"))
    assert ((found.tasks["rating"] >= 1) & (found.tasks["rating"] <= 5)).all()


@pytest.mark.slow
def test_trees_learn_the_order_on_lists_as_served_that_hold_the_chosen_item(tiny):
    fitted = TREES.fit(tiny, 0, True)
    lists = tiny.served_training
    assert fitted.notes["order"]["lists"] == lists.label.any(axis=1).sum() < len(lists.queries)
    assert fitted.rows == 0  # of another kind than those of epochs


def test_a_folder_made_before_says_how_to_get_its_lists(tiny, tmp_path):
    with pytest.raises(UserError, match="lists as served"):
        _ = replace(tiny, folder=tmp_path).served_training


def test_trees_are_calibrated_on_validation(tiny):
    """Trees that promise far too many views are put right, on logits."""
    shown, noise = tiny.validation.exposures, np.random.default_rng(0)
    raw = 3.0 + 0.1 * noise.normal(size=len(shown))
    trees = SimpleNamespace(best_iteration=1, predict=lambda values, **options: raw)
    nothing, known = np.zeros((len(shown), 1)), _Known.from_training(tiny)
    model = _calibrated(trees, "view", nothing, known, tiny)
    labels = shown.labels["view"]
    assert labels.mean() < 0.8
    assert model(nothing, None).mean() == pytest.approx(labels.mean(), abs=0.02)


def test_what_is_known_of_a_regression_is_what_its_factors_expect(tiny):
    lists, known = tiny.test.candidates.take(np.arange(4)), _Known.from_training(tiny)
    found = known.of("rating", lists.queries.user, lists.item)
    factors = tiny.data.label_factors(RETRIEVAL, RANKING)["rating"]
    user = np.repeat(lists.queries.user, lists.item.shape[1])
    wanted = np.clip(factors.predict(user, lists.item.ravel()), 1, 5)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert known.of("view", lists.queries.user, lists.item) is None
