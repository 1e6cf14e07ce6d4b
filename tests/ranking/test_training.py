"""Training a ranker: which labels reach it, resuming, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from interactions.errors import UserError
from ranking.training import restore_ranker
from tandem.config import TandemConfig


def weights(ranker):
    return [variable.numpy() for variable in ranker.trainable_variables]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory):
    return world.fit(tmp_path_factory.mktemp("fitted"))


def test_each_task_logs_its_own_loss_and_all_make_the_total(fitted):
    ranker, progression = fitted
    assert progression.step == 6
    for losses in progression.history:
        tasks = {"retrieval", "rating", "purchase"}
        assert set(losses) == {"step", "loss"} | tasks
        assert losses["loss"] == pytest.approx(sum(losses[task] for task in tasks), rel=1e-4)
    assert ranker.trainable_variables


def test_the_same_seed_gives_the_same_ranker_and_another_does_not(world, fitted, tmp_path):
    again, _ = world.fit(tmp_path / "again")
    other, _ = world.fit(tmp_path / "other", seed=2)
    assert same(weights(fitted[0]), weights(again))
    assert not same(weights(fitted[0]), weights(other))


def test_a_row_without_a_label_teaches_its_task_nothing(world, tmp_path):
    """Without one rating the rating's own head stays as it was; the others learn."""
    labels = dict(world.examples.exposures.labels)
    nothing = world.with_labels(labels | {"rating": np.full_like(labels["rating"], np.nan)})
    ranker, progression = nothing.fit(tmp_path)
    assert all(losses["rating"] == 0 for losses in progression.history)
    heads = {v.name: v.numpy() for v in ranker.trainable_variables if "head_" in v.name}
    assert not any(value.any() for name, value in heads.items() if "rating" in name)
    assert any(value.any() for name, value in heads.items() if "purchase" in name)


def test_lists_without_the_chosen_item_teach_nothing(world, tmp_path):
    table = world.examples.candidates
    elsewhere = replace(table.queries, item=np.full_like(table.queries.item, -5))
    lists = replace(world.examples, candidates=replace(table, queries=elsewhere))
    _, progression = replace(world, examples=lists).fit(tmp_path)
    assert all(losses["retrieval"] == 0 for losses in progression.history)
    assert all(losses["purchase"] > 0 for losses in progression.history)


def test_a_task_of_weight_0_is_neither_trained_nor_predicted(world, tmp_path):
    config = TandemConfig.model_validate(
        {
            "data": {"events": "none.csv"},
            "tasks": {
                "retrieval": {"weight": 1.0},
                "rating": {"weight": 0.0, "kind": "regression", "column": "rating"},
                "purchase": {"weight": 0.5, "kind": "binary", "column": "purchase"},
            },
        }
    )
    without = world.with_tasks(config.trained_tasks)
    ranker, progression = without.fit(tmp_path / "without")
    assert set(ranker.tasks) == {"retrieval", "purchase"}
    assert not any("rating" in variable.name for variable in ranker.trainable_variables)
    assert set(progression.history[0]) == {"step", "loss", "retrieval", "purchase"}
    losses = progression.history[0]
    assert losses["loss"] == pytest.approx(losses["retrieval"] + 0.5 * losses["purchase"], rel=1e-4)


def test_the_retrieval_task_alone_needs_no_exposure(world, tmp_path):
    only = world.with_tasks({"retrieval": world.inputs.tasks["retrieval"]})
    none = only.examples.exposures
    nothing = replace(
        none, queries=none.queries.take(np.zeros(0, int)), retrieval_score=np.zeros(0, np.float32),
        labels={},
    )  # fmt: skip
    only = replace(only, examples=replace(only.examples, exposures=nothing))
    _, progression = only.fit(tmp_path)
    assert set(progression.history[0]) == {"step", "loss", "retrieval"}


def test_an_empty_table_is_refused_with_the_remedy(world, tmp_path):
    table = world.examples.candidates.take(np.zeros(0, int))
    empty = replace(world, examples=replace(world.examples, candidates=table))
    with pytest.raises(UserError, match=r"split\.ranking"):
        empty.fit(tmp_path)


def test_validation_stops_it_and_the_past_of_training_comes_back(world, tmp_path):
    later = world.examples.past.copy()
    for variable in later.variables:
        variable.assign(variable * 0 if variable.dtype.is_integer else variable + 0.5)
    validation = replace(world.examples, past=later)
    ranker, progression = world.fit(tmp_path, validation=validation, steps=None)
    assert progression.done and progression.epoch <= 2
    assert progression.best == max(one["validation"] for one in progression.history)
    for mine, given in zip(ranker.past.variables, world.examples.past.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), given.numpy())


def test_training_leaves_the_given_past_alone_and_found_again_it_predicts_the_same(world, tmp_path):
    before = [variable.numpy() for variable in world.examples.past.variables]
    ranker, _ = world.fit(tmp_path)
    after = [variable.numpy() for variable in world.examples.past.variables]
    assert same(before, after)
    found = restore_ranker(
        world.inputs, past=world.examples.past.copy(), config=ranker.config, folder=tmp_path
    )
    assert same(weights(ranker), weights(found))


def test_where_no_ranker_was_trained_none_is_found(world, fitted, tmp_path):
    with pytest.raises(UserError, match="train it anew"):
        restore_ranker(
            world.inputs, past=world.examples.past.copy(), config=fitted[0].config,
            folder=tmp_path / "nowhere",
        )  # fmt: skip
