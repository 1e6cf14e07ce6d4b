"""Which weights serve which task."""

import numpy as np
import pytest

from features.backend import tf
from ranking.config import RankingConfig
from ranking.experts import (
    MixtureOfExperts,
    NoExperts,
    ProgressiveExtraction,
    Towers,
    experts_of,
)
from ranking.sides import Sides

TASKS = ("click", "buy")


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    return Sides(
        tf.constant(rng.normal(size=(3, 5)), tf.float32),
        tf.constant(rng.normal(size=(3, 4, 6)), tf.float32),
    )


def made(kind, sides, **given):
    tf.keras.utils.set_random_seed(0)
    experts = experts_of(
        RankingConfig(experts=kind, hidden_dims=(8, 4), dropout=0.0, **given), TASKS
    )
    experts(sides, None)
    return experts


def used(module, output):
    """Names of the weights of `module` that the tensor that `output` makes depends on."""
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(output()))
    found = tape.gradient(total, module.trainable_variables)
    pairs = zip(module.trainable_variables, found, strict=True)
    return {v.name for v, gradient in pairs if gradient is not None}


def touched(experts, sides, task):
    """Names of the weights that a task's hidden vector depends on."""
    return used(experts, lambda: experts(sides, None)[task].candidate)


def test_a_shared_bottom_is_one_vector_for_all(sides):
    experts = made("shared_bottom", sides)
    hidden = experts(sides, None)
    assert hidden["click"] is hidden["buy"] and hidden["buy"].candidate.shape == (3, 4, 4)
    assert touched(experts, sides, "click") == touched(experts, sides, "buy")


def test_a_mixture_begins_as_the_mean_of_its_experts(sides):
    experts = made("mmoe", sides, expert_count=3)
    alone = [expert(sides, None).numpy() for expert in experts._experts]
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    for hidden in experts(sides, None).values():
        np.testing.assert_allclose(hidden.candidate, np.mean(alone, axis=0), atol=1e-5)


def test_in_a_mixture_only_the_gates_are_of_one_task(sides):
    experts = made("mmoe", sides)
    click, buy = touched(experts, sides, "click"), touched(experts, sides, "buy")
    assert all("gate_0" in name for name in click - buy) and click - buy
    assert any("expert_0" in name for name in click & buy)


def test_progressive_layers_have_experts_of_one_task_and_shared_ones(sides):
    experts = made("ple", sides)
    click, buy = touched(experts, sides, "click"), touched(experts, sides, "buy")
    # on the last level, a task's own expert and gate; below, the shared gate hands all of it on
    own = {name.split("/")[0] for name in click - buy}
    assert any(name.startswith("expert_1_1") for name in own)
    assert not any(name.startswith("expert_2_1") for name in click)
    assert any(name.startswith("expert_0_1") for name in click & buy)


def test_one_level_of_progressive_layers_has_no_shared_gate(sides):
    experts = ProgressiveExtraction((4,), tasks=TASKS, shared=1, own=2, rate=0.0)
    hidden = experts(sides, None)
    assert set(hidden) == set(TASKS)
    click, buy = touched(experts, sides, "click"), touched(experts, sides, "buy")
    assert click & buy and all(name.startswith("expert_0_0") for name in click & buy)


@pytest.mark.parametrize("kind", ["shared_bottom", "mmoe", "ple"])
def test_the_last_shared_weights_serve_every_task(kind, sides):
    experts = made(kind, sides)
    shared = {variable.name for variable in experts.last_shared}
    assert shared and all(shared <= touched(experts, sides, task) for task in TASKS)


def test_without_experts_the_features_are_handed_on(sides):
    experts = experts_of(RankingConfig(experts="none"), TASKS)
    assert isinstance(experts, NoExperts)
    assert experts(sides, None) == dict.fromkeys(TASKS, sides)
    assert not experts.last_shared


@pytest.mark.parametrize("kind", ["shared_bottom", "mmoe", "ple"])
def test_experts_without_layers_are_refused(kind):
    with pytest.raises(ValueError, match="write experts: none"):
        RankingConfig(experts=kind, hidden_dims=())


@pytest.mark.parametrize("key", ["hidden_dims", "tower_dims"])
def test_a_layer_of_no_width_is_refused(key):
    with pytest.raises(ValueError, match=key):
        RankingConfig(**{key: (8, 0)})


@pytest.mark.parametrize("kind", ["shared_bottom", "mmoe", "ple"])
def test_a_task_may_be_called_what_no_module_may(kind, sides):
    tasks, config = ("add-to-cart", "unbiased-rating"), RankingConfig(experts=kind)
    hidden = Towers((3,), tasks=tasks, rate=0.0)(experts_of(config, tasks)(sides, None), None)
    assert {task: one.shape[-1] for task, one in hidden.items()} == dict.fromkeys(tasks, 3)


def test_dropout_differs_between_experts(sides):
    experts = MixtureOfExperts((6,), tasks=TASKS, experts=2, rate=0.5)
    seed = tf.constant([1, 2])
    experts(sides, None)
    dropped = [expert(sides, seed).numpy() == 0 for expert in experts._experts]
    assert (dropped[0] != dropped[1]).any()


def test_a_tower_serves_its_own_task_alone(sides):
    towers, features = Towers((5, 3), tasks=TASKS, rate=0.0), dict.fromkeys(TASKS, sides)
    assert towers(features, None)["buy"].shape == (3, 4, 3)
    # the kernels of both sides and a bias, then a kernel and a bias
    own = used(towers, lambda: towers(features, None)["buy"])
    assert len(own) == 5 and all(name.startswith("tower_1") for name in own)


def test_without_layers_of_its_own_a_task_takes_what_the_experts_hand_it(sides):
    towers = Towers((), tasks=TASKS, rate=0.5)
    features = {"click": sides, "buy": Sides(None, 2 * sides.candidate)}
    for task, passed in towers(features, tf.constant([1, 2])).items():
        np.testing.assert_array_equal(passed, features[task].joined())
    assert towers.trainable_variables == ()


def test_dropout_differs_between_towers():
    towers = Towers((6, 6), tasks=TASKS, rate=0.5)
    features = dict.fromkeys(TASKS, Sides(None, tf.ones([2, 50, 4])))
    towers(features, None)
    for one, other in zip(*(towers._layers[t].trainable_variables for t in TASKS), strict=True):
        other.assign(one)
    click, buy = (h.numpy() for h in towers(features, tf.constant([1, 2])).values())
    assert ((click == 0) != (buy == 0)).any()
