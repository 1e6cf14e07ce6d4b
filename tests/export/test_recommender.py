import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.recommender import Ranked, top_k
from export.system import recommend
from export.user_state import Past, UserState
from features.backend import tf
from interactions.log import NEVER
from retrieval.repeats import RepeatBonus

GOLDEN = Path(__file__).parents[1] / "golden" / "signatures.json"
UNKNOWN = "nobody"


def texts(names):
    return [[name.decode() for name in row] for row in names]


@pytest.fixture(scope="module")
def everyone(trained_system):
    return [*trained_system.log.user_ids, UNKNOWN]


@pytest.fixture(scope="module")
def lists(ask, everyone):
    return ask("recommender", user_id=everyone)


def test_signatures_are_those_that_clients_rely_on(exported_bundle):
    found = exported_bundle.manifest.model_dump(mode="json")["signatures"]
    assert found == json.loads(GOLDEN.read_text())


def test_what_a_user_chose_never_comes_back(lists, everyone, chosen_by):
    for user, names, count in zip(everyone, texts(lists["item_id"]), lists["count"], strict=True):
        real = names[:count]
        assert len(set(real)) == len(real)
        assert not set(real) & chosen_by.get(user, set())


def test_lists_are_those_of_the_python_models(trained_system, lists, everyone):
    python = recommend(trained_system, everyone, k=10)
    ids = np.where(python.item >= 0, trained_system.log.item_ids[python.item], "")
    assert texts(lists["item_id"]) == ids.tolist()
    np.testing.assert_allclose(lists["score"], python.score, rtol=1e-4)
    np.testing.assert_allclose(lists["purchase"], python.tasks["purchase"], rtol=1e-4)


def test_score_is_the_weighted_sum_of_the_tasks(trained_system, lists):
    mean = trained_system.order.label_mean["rating"]
    std = trained_system.order.label_std["rating"]
    there = lists["count"][:, None] > np.arange(10)
    expected = (
        lists["retrieval"] + 0.5 * (lists["rating"] - mean) / std + 0.7 * np.log(lists["purchase"])
    )
    np.testing.assert_allclose(lists["score"][there], expected[there], atol=1e-4)
    assert (np.diff(lists["score"], axis=1) <= 0).all()
    assert ((lists["purchase"][there] > 0) & (lists["purchase"][there] < 1)).all()
    assert abs(lists["rating"][there].mean() - 3.7) < 1  # in the labels' own units


def test_unknown_users_and_users_without_history_get_whole_lists(lists):
    without = [*range(50, 60), 60]
    assert (lists["count"][without] == 10).all()
    assert np.isfinite(lists["score"][without]).all()


@pytest.mark.parametrize("size", [1, 7, 61])
def test_answers_do_not_depend_on_the_batch(ask, everyone, lists, size):
    parts = [
        ask("recommender", user_id=everyone[start : start + size])
        for start in range(0, len(everyone), size)
    ]
    for name, expected in lists.items():
        found = np.concatenate([part[name] for part in parts])
        if expected.dtype == object or name == "count":
            assert (found == expected).all()
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_its_neighbours(ask, everyone, lists):
    mixed = np.random.default_rng(0).permutation(len(everyone))
    found = ask("recommender", user_id=[everyone[place] for place in mixed])
    assert (found["item_id"] == lists["item_id"][mixed]).all()


def test_a_batch_of_nobody_is_answered_with_nothing(ask):
    assert ask("recommender", user_id=[])["item_id"].shape == (0, 10)


def test_places_beyond_the_catalogue_are_empty(trained_system, ask_graph, chosen_by):
    system = replace(trained_system, candidates=70)
    answer = ask_graph(system, candidates=70, max_k=60)
    users = trained_system.log.user_ids.tolist()
    for model, width in (("recommender", 60), ("retrieval", 70)):
        found = answer(model, user_id=users)
        assert found["item_id"].shape == found["score"].shape == (60, width)
        assert found["count"].tolist() == [40 - len(chosen_by[user]) for user in users]
        for row, count in enumerate(found["count"]):
            assert (found["item_id"][row, count:] == b"").all()
            assert (found["item_id"][row, :count] != b"").all()
            assert (found["score"][row, count:] < -1e38).all()
        json.dumps(found["score"].tolist(), allow_nan=False)


def test_repeats_may_come_back_where_they_are_kept(trained_system, ask_graph, chosen_by):
    answer = ask_graph(replace(trained_system, repeats=True), candidates=12, max_k=10)
    found = answer("recommender", user_id=list(chosen_by))
    again = [set(names) & chosen_by[user] for user, names in zip(
        chosen_by, texts(found["item_id"]), strict=True)]  # fmt: skip
    assert any(again)
    assert (found["count"] == 10).all()


def test_the_bonus_for_repeats_is_served_as_the_python_models_give_it(
    trained_system, ask_graph, chosen_by, monkeypatch
):
    system = replace(trained_system, repeats=True)
    users = list(chosen_by)
    without = recommend(system, users, k=10)
    monkeypatch.setattr(system.searcher.retriever, "repeat_bonus", RepeatBonus(2.0, 0.5))
    expected = recommend(system, users, k=10)
    found = ask_graph(system, candidates=12, max_k=10)("recommender", user_id=users)
    assert texts(found["item_id"]) == system.log.item_ids[expected.item].tolist()
    np.testing.assert_allclose(found["retrieval_score"], expected.retrieval_score, atol=1e-4)
    own, before = (
        sum(len(set(names) & chosen_by[user]) for user, names in zip(users, lists, strict=True))
        for lists in (texts(found["item_id"]), system.log.item_ids[without.item])
    )
    assert own > before


def test_the_two_models_one_after_the_other_give_the_recommender_s_lists(ask, everyone, lists):
    found = ask("retrieval", user_id=everyone)
    ranked = ask(
        "ranking", user_id=everyone, item_id=found["item_id"], retrieval_score=found["score"]
    )
    order = np.argsort(-ranked["score"], axis=1, kind="stable")[:, :10]
    assert (np.take_along_axis(found["item_id"], order, 1) == lists["item_id"]).all()
    for task in ("retrieval", "rating", "purchase"):
        values = np.take_along_axis(ranked[task], order, 1)
        np.testing.assert_allclose(values, lists[task], atol=1e-4)


def test_ranking_answers_for_unknown_items_and_leaves_padding_out(ask):
    found = ask(
        "ranking",
        user_id=["user 1 é", UNKNOWN],
        item_id=[["item-1", "never seen", ""]] * 2,
        retrieval_score=[[0.5, float("nan"), -3e38]] * 2,
    )
    for values in found.values():
        assert np.isfinite(values).all()
        assert (values[:, :2] > -1e3).all()
        assert (values[:, 2] < -1e38).all()


def test_embeddings_multiply_to_the_retrieval_score(ask, trained_system):
    user = ["user 3 é"]
    found = ask("retrieval", user_id=user)
    vector = ask("retrieval", "embed_user", user_id=user)["embedding"][0]
    items = trained_system.log.item_ids
    products = ask("retrieval", "embed_item", item_id=items)["embedding"] @ vector
    names = found["item_id"][0, : found["count"][0]]
    raw = products[[int(name.decode().removeprefix("item-")) for name in names]]
    expected = (raw - products.mean()) / products.std()
    np.testing.assert_allclose(found["score"][0, : len(raw)], expected, atol=1e-3)


def test_similar_items_are_others_by_falling_cosine(ask, trained_system):
    items = trained_system.log.item_ids
    found = ask("retrieval", "similar_items", item_id=items[:5])
    vectors = ask("retrieval", "embed_item", item_id=items)["embedding"][:, :-1]
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    best = np.argsort(-cosines, axis=1)[:5, :12]
    assert texts(found["item_id"]) == items[best].tolist()
    np.testing.assert_allclose(found["score"], np.take_along_axis(cosines[:5], best, 1), atol=1e-5)
    assert ask("retrieval", "similar_items", item_id=["never seen"])["count"] == [0]


def test_equal_scores_come_in_the_order_of_rows():
    item = tf.constant([[7, 3, 9, -1, 5]])
    score = tf.constant([[1.0, 1.0, 2.0, 9.0, 1.0]])
    best = top_k(Ranked(item, score, score, {}), k=4)
    assert best.item.numpy().tolist() == [[9, 3, 5, 7]]


def test_latest_takes_the_end_of_each_history():
    items = tf.constant([[1, 2, 3, 4], [5, 6, -1, -1], [-1, -1, -1, -1], [7, 8, 9, -1]])
    times = tf.cast(tf.maximum(items, 0) * 10, tf.int64)
    found = Past(items, times, tf.constant([4, 2, 0, 3])).latest(2)
    assert found.items.numpy().tolist() == [[3, 4], [5, 6], [-1, -1], [8, 9]]
    assert found.times.numpy().tolist() == [[30, 40], [50, 60], [0, 0], [80, 90]]
    assert found.length.numpy().tolist() == [2, 2, 0, 2]


def test_the_state_of_users_is_their_histories(trained_system):
    users = np.arange(-1, len(trained_system.log.user_ids))
    past = UserState(trained_system).history(tf.constant(users, tf.int32))
    width = past.items.shape[1]
    known = trained_system.histories.before(users, np.full(len(users), NEVER), length=width)
    np.testing.assert_array_equal(past.items, known.items)
    np.testing.assert_array_equal(past.times, known.times)
    np.testing.assert_array_equal(past.length, known.count)
