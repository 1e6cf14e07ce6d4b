"""Training a ranker: which labels reach it, resuming, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from features.backend import tf
from interactions.config import TaskConfig
from interactions.errors import UserError
from ranking.calibration import Affine
from ranking.inputs import Request
from ranking.loss import log_losses, squared_errors
from ranking.scoring import Scorer, readable
from ranking.training import restore_ranker, retrieval_scale
from tandem.config import TandemConfig
from training.config import ScheduleConfig


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
        told = {f"{what}/{task}" for what in ("weight", "gradient_norm") for task in tasks}
        assert set(losses) == {"step", "loss"} | tasks | told
        assert all(losses[f"gradient_norm/{task}"] > 0 for task in tasks)
        # each step is weighed by the same weights
        weighed = sum(losses[f"weight/{task}"] * losses[task] for task in tasks)
        assert losses["loss"] == pytest.approx(weighed, rel=1e-4)
    assert ranker.trainable_variables


def test_losses_are_brought_to_one_curvature(fitted):
    """At a constant prediction the second derivative of a weighted loss is the config's weight."""
    ranker, progression = fitted
    weights = {task: progression.history[0][f"weight/{task}"] for task in ranker.tasks}
    rate, rng = ranker.inputs.label_mean["purchase"], np.random.default_rng(0)
    standard = rng.normal(size=20_000)
    bought = (rng.random(20_000) < rate).astype(float)
    step = 0.01
    for task, start, loss in (
        ("rating", 0.0, lambda x: squared_errors(x, tf.constant(standard), std=1.0)),
        ("purchase", np.log(rate / (1 - rate)), lambda x: log_losses(x, tf.constant(bought))),
    ):
        below, here, above = (
            loss(tf.fill([20_000], tf.constant(start + x, tf.float64))).numpy().mean()
            for x in (-step, 0.0, step)
        )
        curvature = (below - 2 * here + above) / step**2
        assert weights[task] * curvature == pytest.approx(ranker.tasks[task].weight, rel=0.01)
    assert weights["retrieval"] == pytest.approx(ranker.tasks["retrieval"].weight)


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
    moved = {
        task: any(weight.numpy().any() for weight in head.trainable_variables)
        for task, head in ranker.heads._heads.items()
    }
    assert moved["purchase"] and not moved["rating"]


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
    told = {name for name in progression.history[0] if "/" not in name}
    assert told == {"step", "loss", "retrieval", "purchase"}
    losses = progression.history[0]
    weighed = sum(losses[f"weight/{task}"] * losses[task] for task in ("retrieval", "purchase"))
    assert losses["loss"] == pytest.approx(weighed, rel=1e-4)


def test_the_retrieval_task_alone_needs_no_exposure(world, tmp_path):
    only = world.with_tasks({"retrieval": world.inputs.tasks["retrieval"]})
    none = only.examples.exposures
    nothing = replace(
        none, queries=none.queries.take(np.zeros(0, int)), retrieval_score=np.zeros(0, np.float32),
        labels={},
    )  # fmt: skip
    only = replace(only, examples=replace(only.examples, exposures=nothing))
    _, progression = only.fit(tmp_path)
    told = {name for name in progression.history[0] if "/" not in name}
    assert told == {"step", "loss", "retrieval"}


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


@pytest.mark.parametrize("batch", [20, 400])
def test_a_task_of_few_labels_counts_on_validation_however_they_are_batched(world, tmp_path, batch):
    """Only the last rows have a rating; most parts of the window have none, and no say in it."""
    rating = world.examples.exposures.labels["rating"].copy()
    rating[: len(rating) * 9 // 10] = np.nan
    few = world.with_labels(world.examples.exposures.labels | {"rating": rating})
    tasks = {name: few.inputs.tasks[name] for name in ("retrieval", "rating")}
    schedule = ScheduleConfig(max_epochs=1, learning_rate=1e-12)
    ranking = {"batch_queries": batch, "schedule": schedule}
    ranker, progression = few.with_tasks(tasks).fit(
        tmp_path, ranking=ranking, validation=few.examples, steps=None
    )
    there = ~np.isnan(rating)
    inputs = ranker.inputs
    off = (rating[there].astype(float) - inputs.label_mean["rating"]) / inputs.label_std["rating"]
    losses = progression.history[-1]
    weights = {task: losses[f"weight/{task}"] for task in tasks}
    scores, chosen = few.examples.candidates.retrieval_score, few.examples.candidates.label
    logits = retrieval_scale(few.examples.candidates) * scores.astype(float)
    choice = (logsumexp(logits, axis=1) - (logits * chosen).sum(axis=1))[chosen.any(axis=1)]
    expected = weights["retrieval"] * choice.mean() + weights["rating"] * np.mean(off**2)
    assert -losses["validation"] == pytest.approx(expected, rel=1e-4)


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


CHOICES = (
    [{"history_model": name} for name in ("mean", "target_attention", "transformer")]
    + [{"interaction": name} for name in ("dcn", "dot", "none")]
    + [{"experts": name, "hidden_dims": (6, 4)} for name in ("shared_bottom", "mmoe", "ple")]
    + [{"tower_dims": dims} for dims in ((), (5, 3))]
    + [{"balance": name} for name in ("fixed", "uncertainty", "gradnorm", "pcgrad")]
)


@pytest.mark.slow
@pytest.mark.parametrize("ranking", CHOICES, ids=str)
def test_every_choice_learns_and_is_found_again(world, tmp_path, ranking):
    ranker, progression = world.fit(tmp_path / "whole", ranking=ranking, steps=12)
    losses = [one["loss"] for one in progression.history]
    assert np.isfinite(losses).all()
    names = {name for name in progression.history[0] if name.startswith("weight/")}
    assert names == {"weight/retrieval", "weight/rating", "weight/purchase"}
    # of the last shared layer, which every task uses
    assert all(
        one[f"gradient_norm/{task}"] > 0 for one in progression.history for task in ranker.tasks
    )
    found = restore_ranker(
        world.inputs, past=world.examples.past.copy(), config=ranker.config,
        folder=tmp_path / "whole",
    )  # fmt: skip
    assert same(weights(ranker), weights(found))


def with_tasks(world, **changes):
    """The world's tasks, some of their keys changed."""
    tasks = dict(world.inputs.tasks)
    for name, change in changes.items():
        tasks[name] = tasks[name].model_copy(update=change)
    return world.with_tasks(tasks)


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["inverse_propensity", "doubly_robust"])
def test_a_corrected_task_learns_and_its_helpers_are_not_predicted(world, tmp_path, selection):
    corrected = with_tasks(world, rating={"selection": selection})
    ranker, progression = corrected.fit(tmp_path)
    assert all(one["rating"] > 0 for one in progression.history)
    assert ranker.heads._observed["rating"].wide.candidate_kernel.numpy().any()
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    table = world.examples.candidates.take(np.arange(5))
    found = scorer.predict(table.queries, table.item, table.retrieval_score)
    assert set(found) == {"retrieval", "rating", "purchase"}


def test_without_a_correction_nothing_is_added(fitted):
    assert not any("observed" in v.name or "imputed" in v.name for v in fitted[0].variables)


def test_calibrated_on_validation_and_found_again_it_predicts_the_same(world, tmp_path):
    ranker, _ = world.fit(tmp_path, validation=world.examples, ranking={"calibration": "platt"})
    assert set(ranker.calibrators) == {"retrieval", "rating", "purchase"}
    others = [one for task, one in ranker.calibrators.items() if task != "retrieval"]
    assert all(isinstance(one, Affine) and one != Affine() for one in others)
    found = restore_ranker(
        world.inputs, past=world.examples.past.copy(), config=ranker.config, folder=tmp_path
    )
    table = world.examples.candidates.take(np.arange(50))
    one, other = (
        Scorer(which, histories=world.histories, context=world.context).predict(
            table.queries, table.item, table.retrieval_score
        )
        for which in (ranker, found)
    )
    for task, values in one.items():
        np.testing.assert_allclose(values, other[task], atol=1e-5)


def test_calibrated_probabilities_are_as_many_as_the_labels(world, tmp_path):
    """On what it was calibrated on, however badly the ranker was trained."""
    ranker, _ = world.fit(
        tmp_path, validation=world.examples, steps=1, ranking={"calibration": "platt"}
    )
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    shown = world.examples.exposures
    found = scorer.predict(
        shown.queries, shown.queries.item[:, None], shown.retrieval_score[:, None]
    )
    chance = 1 / (1 + np.exp(-found["purchase"][:, 0]))
    assert chance.mean() == pytest.approx(shown.labels["purchase"].mean(), abs=0.01)


def test_given_calibrators_are_kept(world, tmp_path):
    given = {"purchase": Affine(0.5, 1.0)}
    ranker, _ = world.fit(tmp_path, calibrators=given)
    assert ranker.calibrators == given


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "label"), [("purchase", 0.0), ("purchase", 1.0), ("rating", 4.0)], ids=str
)
def test_labels_of_one_value_are_learnt_as_what_they_are(world, tmp_path, task, label):
    labels = dict(world.examples.exposures.labels)
    labels[task] = np.full_like(labels[task], label)
    alike = world.with_labels(labels)
    means = {**world.inputs.label_mean, task: label}
    stds = {**world.inputs.label_std, task: 1.0}
    ranges = {task: (label, label)}
    alike = replace(
        alike,
        inputs=replace(alike.inputs, label_mean=means, label_std=stds, label_range=ranges),
    )
    ranker, _ = alike.fit(tmp_path, validation=alike.examples)
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    table = world.examples.candidates.take(np.arange(20))
    found = scorer.predict(table.queries, table.item, table.retrieval_score)[task]
    read = readable(ranker.tasks[task], found).numpy()
    assert np.abs(read - label).max() < 0.3


def test_a_further_task_needs_nothing_but_its_config(world, tmp_path):
    labels = dict(world.examples.exposures.labels)
    labels["returned"] = np.roll(labels["purchase"], 1)
    more = world.with_labels(labels)
    tasks = {
        **world.inputs.tasks,
        "returned": TaskConfig(kind="binary", column="returned", given="purchase", weight=0.3),
    }
    inputs = replace(
        world.inputs, tasks=tasks,
        label_mean={**world.inputs.label_mean, "returned": 0.3},
        label_std={**world.inputs.label_std, "returned": 0.4},
    )  # fmt: skip
    ranker, progression = replace(more, inputs=inputs).fit(tmp_path)
    assert progression.history[0]["returned"] > 0
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    table = world.examples.candidates.take(np.arange(20))
    found = scorer.predict(table.queries, table.item, table.retrieval_score)
    assert (found["returned"] <= found["purchase"]).all()


def test_kept_vectors_of_items_stand_for_their_features(world, fitted):
    ranker, _ = fitted
    kept = tf.Variable(ranker.vectors_of_items())
    # a list with a place that is empty, and a user without a history
    request = Request(
        users=tf.constant([0, -1]),
        history=tf.constant([[1, 2, -1], [-1, -1, -1]]),
        context={name: tf.constant(v[:2]) for name, v in world.context.arrays.items()},
        candidates=tf.constant([[3, 1, -1], [0, 4, 2]]),
        retrieval_score=tf.constant([[1.0, 0.5, 0.0], [2.0, 1.0, -1.0]]),
    )
    computed, gathered = ranker(request), ranker(request, item_vectors=kept)
    for task, expected in computed.items():
        np.testing.assert_allclose(gathered[task], expected, atol=1e-5)
    # and it is these vectors that are looked at
    other = ranker(request, item_vectors=tf.Variable(kept + 1.0))
    assert any(np.abs(other[task] - computed[task]).max() > 1e-3 for task in computed)


def test_requests_that_share_their_items_vectors_are_predicted_as_if_alone(world, fitted):
    ranker, _ = fitted
    table, scorer = (
        world.examples.candidates,
        Scorer(ranker, histories=world.histories, context=world.context),
    )
    requests = []
    for some, width in ((np.arange(3), 5), (np.arange(3, 8), 2)):
        asked = table.queries.take(some)
        inputs = scorer.inputs(asked, asked.row)
        requests.append(
            Request(
                inputs["users"], inputs["history"], inputs["context"],
                tf.constant(table.item[some, :width]),
                tf.constant(table.retrieval_score[some, :width]),
            )
        )  # fmt: skip
    for request, together in zip(requests, ranker.outputs(requests), strict=True):
        [alone] = ranker.outputs([request])
        for task, expected in alone.predictions.items():
            np.testing.assert_allclose(together.predictions[task], expected, atol=1e-5)
