"""Histories as candidates see them: against loops, and what must make no difference."""

import numpy as np
import pytest

from features.backend import tf
from ranking.config import RankingConfig
from ranking.history import (
    CandidateTransformer,
    HistoryItems,
    MeanHistory,
    TargetAttention,
    history_of,
)

B, C, H, D, UNITS = 3, 4, 5, 6, 2
COUNTS = (5, 2, 0)
MODELS = {
    "mean": MeanHistory,
    "target_attention": lambda: TargetAttention(D, units=UNITS, length=H),
    "transformer": lambda: CandidateTransformer(D, heads=2, length=H, rate=0.0),
}


def history_with(padding):
    """The same histories, with `padding` where there is nothing."""
    rng = np.random.default_rng(0)
    mask = (np.arange(H) < np.array(COUNTS)[:, None]).astype(np.float32)
    vectors = np.where(mask[:, :, None] > 0, rng.normal(size=(B, H, D)), padding)
    return HistoryItems(tf.constant(vectors, tf.float32), tf.constant(mask))


@pytest.fixture
def candidates():
    return tf.constant(np.random.default_rng(1).normal(size=(B, C, D)), tf.float32)


def made(name, candidates):
    model = MODELS[name]()
    model(history_with(0.0), candidates, None)
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 2)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_what_pads_a_history_makes_no_difference(name, candidates):
    model = made(name, candidates)
    one, other = (model(history_with(padding), candidates, None) for padding in (0.0, 9.0))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_candidate_does_not_depend_on_the_others(name, candidates):
    model, history = made(name, candidates), history_with(0.0)
    together = model(history, candidates, None)
    for place in range(C):
        alone = model(history, candidates[:, place : place + 1], None)
        np.testing.assert_allclose(alone[:, 0], together[:, place], atol=1e-5)


@pytest.mark.parametrize("name", ["target_attention", "transformer"])
def test_the_order_of_a_history_matters_to_those_that_know_it(name, candidates):
    model, history = made(name, candidates), history_with(0.0)
    turned = HistoryItems(
        tf.concat([history.vectors[:1, ::-1], history.vectors[1:]], 0), history.mask
    )
    found, other = model(history, candidates, None), model(turned, candidates, None)
    assert np.abs(found[0] - other[0]).max() > 1e-3
    np.testing.assert_allclose(found[1:], other[1:], atol=1e-5)


def test_target_attention_is_the_activation_unit_of_the_paper(candidates):
    model, history = made("target_attention", candidates), history_with(0.0)
    both, item, candidate, age, out = (
        next(v.numpy() for v in model.trainable_variables if f"attention_{part}" in v.name)
        for part in ("both", "item", "candidate", "age", "out")
    )
    found = model(history, candidates, None).numpy()
    for b, count in enumerate(COUNTS):
        for c in range(C):
            target = candidates[b, c].numpy()
            total, weights = np.zeros(D), 0.0
            for h in range(count):
                vector = history.vectors[b, h].numpy()
                unit = [
                    vector @ item[:, u] + target @ candidate[:, u] + (vector * target) @ both[u]
                    + age[count - 1 - h, u]
                    for u in range(UNITS)
                ]  # fmt: skip
                weight = np.maximum(unit, 0) @ out
                total, weights = total + weight * vector, weights + weight
            scale = max(count, 1) ** -0.5
            assert found[b, c, :D] == pytest.approx(total * scale, rel=1e-3, abs=1e-4)
            assert found[b, c, D] == pytest.approx(weights * scale, rel=1e-3, abs=1e-4)


def test_without_a_history_the_transformer_finds_what_the_candidate_is(candidates):
    """No mean of padding comes in: other weights of the values change nothing."""
    model, history = made("transformer", candidates), history_with(0.0)
    before = model(history, candidates, None).numpy()
    for variable in model.trainable_variables:
        if "ask_value" in variable.name:
            variable.assign(variable * 3 + 1)
    after = model(history, candidates, None).numpy()
    np.testing.assert_allclose(before[2], after[2], atol=1e-5)
    assert np.abs(before[0] - after[0]).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_the_config_names_the_model(name, candidates):
    config = RankingConfig(history_model=name, embedding_dim=D, history=H)
    model = history_of(config)
    assert type(model) is type(MODELS[name]())
    assert model(history_with(0.0), candidates, tf.constant([1, 2])).shape[:2] == (B, C)


def test_heads_that_do_not_divide_the_vector_are_refused():
    with pytest.raises(ValueError, match="divisor"):
        RankingConfig(history_model="transformer", embedding_dim=10, attention_heads=4)
