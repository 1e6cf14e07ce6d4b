"""The fused softmax against plain maths in float64."""

import itertools

import numpy as np
import pytest

from features.backend import tf
from retrieval.loss import softmax_loss
from retrieval.softmax import Arrival, Shift

QUERIES, CANDIDATES, WIDTH, SLOTS, WINDOWS = 130, 20_000, 3, 4, 9
"""So many candidates that the queries are cut into several chunks."""


def make(seed, *, queries=QUERIES, candidates=CANDIDATES):
    rng = np.random.default_rng(seed)
    return {
        "queries": rng.normal(size=(queries, WIDTH)),
        "candidates": rng.normal(size=(candidates, WIDTH)),
        "bias": rng.normal(size=(SLOTS, candidates)),
        "slot": rng.integers(0, SLOTS, queries),
        "correction": np.where(
            rng.random((WINDOWS, candidates)) < 0.1, -1e9, rng.normal(size=(WINDOWS, candidates))
        ),
        "window": rng.integers(0, WINDOWS, queries),
        "positive": rng.integers(0, candidates, queries),
        "positive_correction": rng.normal(size=queries),
        "first_seen": rng.integers(0, 50, candidates),
        "time": rng.integers(0, 50, queries),
        "weight": rng.random(queries),
    }


def without(world, *names):
    """Take away slots, windows, times, weights or the classical form."""
    world = dict(world)
    if "slots" in names:
        world["bias"], world["slot"] = world["bias"][:1], None
    if "windows" in names:
        world["correction"], world["window"] = world["correction"][:1], None
    if "times" in names:
        world["first_seen"] = world["time"] = None
    for name in {"weight", "positive_correction"} & set(names):
        world[name] = None
    return world


def tensor(values):
    if values is None:
        return None
    kind = tf.float32 if values.dtype == np.float64 else tf.int32
    return tf.constant(values, kind)


def fused(world):
    """Loss and its gradients by queries, candidates and bias."""
    given = {name: tensor(values) for name, values in world.items()}
    inputs = [given["queries"], given["candidates"], given["bias"]]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = softmax_loss(
            inputs[0],
            inputs[1],
            positive=given["positive"],
            bias=Shift(inputs[2], given["slot"]),
            correction=Shift(given["correction"], given["window"]),
            positive_correction=given["positive_correction"],
            arrival=None
            if given["time"] is None
            else Arrival.of(given["first_seen"], given["time"]),
            weight=given["weight"],
        )
    return [loss, *tape.gradient(loss, inputs)]


def plain(world):
    """The same by the book."""
    queries, candidates, bias = (world[name] for name in ("queries", "candidates", "bias"))
    number = len(queries)
    slot = np.zeros(number, int) if world["slot"] is None else world["slot"]
    window = np.zeros(number, int) if world["window"] is None else world["window"]
    weight = np.ones(number) if world["weight"] is None else world["weight"]
    weight = (weight / weight.sum())[:, np.newaxis]
    chosen = np.eye(len(candidates), dtype=bool)[world["positive"]]
    scores = queries @ candidates.T + bias[slot]
    negative = scores + world["correction"][window]
    if world["time"] is not None:
        negative[world["first_seen"][np.newaxis] > world["time"][:, np.newaxis]] = -np.inf
    own = 0.0 if world["positive_correction"] is None else world["positive_correction"]
    logits = np.where(chosen, scores + np.reshape(own, (-1, 1)), negative)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = exp / exp.sum(axis=1, keepdims=True)
    total = np.log(exp.sum(axis=1)) + logits.max(axis=1)
    loss = (weight[:, 0] * (total - logits[chosen])).sum()
    by_logit = weight * (chances - chosen)
    by_bias = np.zeros_like(bias)
    np.add.at(by_bias, slot, by_logit)
    return [loss, by_logit @ candidates, by_logit.T @ queries, by_bias]


OPTIONS = ("slots", "windows", "times", "weight", "positive_correction")
SUBSETS = [c for n in range(len(OPTIONS) + 1) for c in itertools.combinations(OPTIONS, n)]


@pytest.mark.parametrize("absent", SUBSETS, ids="-".join)
def test_every_combination_is_the_plain_softmax(absent):
    world = without(make(0, queries=60, candidates=50), *absent)
    for found, wanted in zip(fused(world), plain(world), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("absent", [(), ("slots",), ("slots", "windows", "times")])
def test_chunks_leave_no_seam(absent):
    world = without(make(1), *absent)
    for found, wanted in zip(fused(world), plain(world), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6)


def test_any_upstream_gradient_passes():
    world = without(make(2, queries=20, candidates=30), "weight")
    queries = tensor(world["queries"])
    with tf.GradientTape() as tape:
        tape.watch(queries)
        loss = -3.0 * softmax_loss(
            queries * 2.0,
            tensor(world["candidates"]),
            positive=tensor(world["positive"]),
            bias=Shift(tensor(world["bias"]), tensor(world["slot"])),
            correction=Shift(tf.zeros([1, 30])),
        )
    doubled = without(world | {"queries": world["queries"] * 2}, "times", "positive_correction")
    doubled |= {"correction": np.zeros((1, 30)), "window": None}
    np.testing.assert_allclose(
        tape.gradient(loss, queries), -6.0 * plain(doubled)[1], rtol=1e-4, atol=1e-6
    )


def test_a_graph_takes_batches_of_any_size():
    floats, ints = tf.TensorSpec([None, WIDTH]), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[floats, floats, ints])
    def step(queries, candidates, positive):
        nothing = Shift(tf.zeros([1, tf.shape(candidates)[0]]))
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            loss = softmax_loss(
                queries, candidates, positive=positive, bias=nothing, correction=nothing
            )
        return loss, tape.gradient(loss, [queries, candidates])

    absent = ("slots", "windows", "times", "weight", "positive_correction")
    for size in (1, 7, 130):
        world = without(make(3, queries=size, candidates=20 * size), *absent)
        world["bias"] = world["correction"] = np.zeros((1, 20 * size))
        loss, (by_queries, by_candidates) = step(
            *(tensor(world[name]) for name in ("queries", "candidates", "positive"))
        )
        wanted = plain(world)
        assert loss.numpy() == pytest.approx(wanted[0], rel=1e-4)
        np.testing.assert_allclose(by_queries, wanted[1], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(by_candidates, wanted[2], rtol=1e-4, atol=1e-6)


def test_huge_scores_do_no_harm():
    world = without(make(4, queries=10, candidates=20), "slots", "windows", "times")
    world["queries"] = world["queries"] * 3e3
    for found, wanted in zip(fused(world), plain(world), strict=True):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_with_every_negative_masked_it_costs_nothing_and_moves_nothing():
    world = without(make(5, queries=6, candidates=8), "positive_correction")
    for masked in (
        world | {"correction": np.full((WINDOWS, 8), -1e9)},
        world | {"first_seen": np.full(8, 99)},
        world | {"correction": np.full((WINDOWS, 8), -1e9), "first_seen": np.full(8, 99)},
    ):
        loss, *gradients = fused(masked)
        assert float(loss) == pytest.approx(0.0, abs=1e-6)
        for gradient in gradients:
            np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_no_weight_is_no_loss():
    world = make(6, queries=6, candidates=8) | {"weight": np.zeros(6)}
    for found in fused(world):
        np.testing.assert_array_equal(found, np.zeros_like(found))


def test_an_item_counts_from_the_moment_it_appears():
    """Before its first time its gradient is exactly 0, at it no longer."""
    found = Arrival.of(
        tf.constant([30, 10, 20, 20], tf.int64), tf.constant([9, 10, 20, 99], tf.int64)
    )
    there = found.order.numpy()[np.newaxis] < found.known.numpy()[:, np.newaxis]
    np.testing.assert_array_equal(there, [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
