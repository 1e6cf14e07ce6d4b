"""The query's side is computed once for all candidates: counted in the graph's own arithmetic."""

import numpy as np
import pytest

from features.backend import tf
from ranking.config import RankingConfig
from ranking.model import Ranker, Request

CANDIDATES = 50


@pytest.fixture(params=["dcn", "dot", "none"])
def ranker(world, request):
    config = RankingConfig(
        embedding_dim=4, feature_dim=2, cross_rank=2, tower_dims=(4,),
        history=6, neighbours=3,
        history_model="mean", interaction=request.param,
    )  # fmt: skip
    return Ranker(world.inputs, config, world.examples.past.copy())


def request_of(queries, candidates):
    """`queries` requests for `candidates` items each, in a graph of fixed shapes."""
    return {
        "users": tf.TensorSpec([queries], tf.int32),
        "history": tf.TensorSpec([queries, 6], tf.int32),
        "device": tf.TensorSpec([queries], tf.int32),
        "candidates": tf.TensorSpec([queries, candidates], tf.int32),
        "score": tf.TensorSpec([queries, candidates], tf.float32),
    }


def rows_multiplied(ranker, queries, candidates):
    """By weight of the query's side, how many rows its product has."""

    @tf.function
    def call(users, history, device, candidates, score):
        return ranker(Request(users, history, {"device": device}, candidates, score))

    graph = call.get_concrete_function(**request_of(queries, candidates)).graph
    handles = {id(handle): variable for variable, handle in _captured(ranker, graph)}
    found = {}
    for operation in graph.get_operations():
        if operation.type != "MatMul":
            continue
        read = operation.inputs[1].op
        variable = handles.get(id(read.inputs[0])) if read.type == "ReadVariableOp" else None
        if variable is not None and "query" in variable.name:
            found[variable.name] = operation.inputs[0].shape[0]
    return found


def _captured(ranker, graph):
    placed = {id(outer): inner for outer, inner in graph.captures}
    return [(v, placed[id(v.handle)]) for v in ranker.variables if id(v.handle) in placed]


def test_weights_of_the_querys_side_are_multiplied_once_per_query(ranker):
    found = rows_multiplied(ranker, 3, CANDIDATES)
    assert len(found) > 1
    assert set(found.values()) == {3}, found


def test_a_shared_side_says_what_one_of_its_own_does(world, ranker):
    """One request of many candidates, and as many requests of one candidate each."""
    rng = np.random.default_rng(0)
    for variable in ranker.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.3)
    items = rng.integers(0, len(world.log.item_ids), (2, CANDIDATES)).astype(np.int32)
    scores = rng.normal(size=items.shape).astype(np.float32)
    users, history = np.array([1, 4], np.int32), np.array([[3, 9, -1, -1, -1, -1]] * 2, np.int32)
    device = np.array([1, 2], np.int32)

    def asked(times, shape):
        return Request(
            tf.constant(np.repeat(users, times)),
            tf.constant(np.repeat(history, times, axis=0)),
            {"device": tf.constant(np.repeat(device, times))},
            tf.constant(items.reshape(shape)),
            tf.constant(scores.reshape(shape)),
        )

    shared, alone = ranker(asked(1, (2, -1))), ranker(asked(CANDIDATES, (-1, 1)))
    for task, values in shared.items():
        np.testing.assert_allclose(
            values.numpy().ravel(), alone[task].numpy().ravel(), rtol=1e-4, atol=1e-5
        )
