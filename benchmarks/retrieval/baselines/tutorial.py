"""The retrieval model of the TensorFlow Recommenders tutorial, as a reader would write it down.

String look-ups inside the model, one embedding per id, Adagrad at 0.1, the bare in-batch softmax of
`tfrs.tasks.Retrieval`, `FactorizedTopK`, `model.fit` on tf.data
(https://www.tensorflow.org/recommenders/examples/basic_retrieval). Only the embeddings are longer
than there (64 instead of 32), and the batch and the number of epochs are chosen on validation.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.retrieval.contender import (
    Contender,
    Evaluation,
    Fitted,
    Point,
    Settings,
    grid,
)
from benchmarks.retrieval.problem import Problem, mean_ndcg
from features.backend import tf, tfrs
from interactions.queries import Queries

TRAINING = grid(batch=(512, 2048, 8192), epochs=(60,), patience=(5,))
EMBEDDING_DIM = 64
EVALUATED = 2_000
"""Most queries on which the speed of `FactorizedTopK` is measured."""


class TutorialModel(tfrs.Model):
    """Two towers that are an embedding each."""

    def __init__(self, user_ids: np.ndarray, item_ids: np.ndarray, catalogue: np.ndarray) -> None:
        """Take the distinct ids of the training, and those of the whole catalogue, all [n] str."""
        super().__init__()
        self.user_model = _tower(user_ids)
        self.item_model = _tower(item_ids)
        items = tf.data.Dataset.from_tensor_slices(catalogue.astype(str))
        self.task: Any = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(items.batch(128).map(self.item_model))
        )

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Return the task's loss of a batch of id pairs."""
        return self.task(
            self.user_model(inputs["user_id"]),
            self.item_model(inputs["item_id"]),
            # as the tutorial advises: metrics over the catalogue would make training very slow
            compute_metrics=not training,
        )


def pairs(problem: Problem, rows: np.ndarray) -> Any:
    """Return the ids of log rows ([n] int64) as a tf.data set of single pairs."""
    log = problem.data.log
    ids: Any = {
        "user_id": log.user_ids[log.user[rows]].astype(str),
        "item_id": log.item_ids[log.item[rows]].astype(str),
    }
    return tf.data.Dataset.from_tensor_slices(ids)


def new_model(problem: Problem) -> TutorialModel:
    """Return an untrained model of the problem's training ids, compiled."""
    log = problem.data.log
    # Any: the stubs of Keras take a model for the base class
    model: Any = TutorialModel(
        log.user_ids[np.unique(log.user[problem.chosen])],
        log.item_ids[np.unique(log.item[problem.chosen])],
        log.item_ids,
    )
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    return model


def training_batches(problem: Problem, *, batch: int, seed: int) -> Any:
    """Return the training events in the tutorial's way: shuffled, batched, cached."""
    events = pairs(problem, problem.chosen).shuffle(100_000, seed=seed)
    return events.batch(batch).cache()


def evaluate(model: TutorialModel, problem: Problem, queries: Queries) -> Evaluation:
    """Time `model.evaluate`, its metrics over the whole catalogue, on at most `EVALUATED`."""
    batches = pairs(problem, queries.row[:EVALUATED]).batch(4096).cache()
    model.evaluate(batches.take(1), verbose=0)  # traces the graph and fills the cache
    started = time.perf_counter()
    model.evaluate(batches, verbose=0)
    return Evaluation(min(len(queries), EVALUATED), time.perf_counter() - started)


def _tower(ids: np.ndarray) -> Any:
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=ids.astype(str), mask_token=None),
            tf.keras.layers.Embedding(len(ids) + 1, EMBEDDING_DIM),  # one more for unknown ids
        ]
    )


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    tf.keras.utils.set_random_seed(seed)
    model = new_model(problem)
    batches = training_batches(problem, batch=settings["batch"], seed=seed)
    held_out = problem.tuning_queries()
    curve: list[Point] = []
    seconds, best, weights = 0.0, 0, []
    while len(curve) < settings["epochs"] and len(curve) - best <= settings["patience"]:
        started = time.perf_counter()
        model.fit(batches, epochs=1, verbose=0)
        seconds += time.perf_counter() - started
        curve.append(Point(seconds, mean_ndcg(_rank(model, problem, held_out), held_out)))
        if curve[-1].ndcg > max((point.ndcg for point in curve[:-1]), default=-1.0):
            best, weights = len(curve), model.get_weights()
    model.set_weights(weights)
    return Fitted(
        lambda queries, asking: _rank(model, problem, queries),
        curve[best - 1].seconds,
        len(problem.chosen) * best,
        tuple(curve),
        lambda queries: evaluate(model, problem, queries),
    )


def _rank(model: TutorialModel, problem: Problem, queries: Queries) -> np.ndarray:
    log = problem.data.log
    items = model.item_model(tf.constant(log.item_ids.astype(str))).numpy()

    def scores(part: Queries) -> np.ndarray:
        users = model.user_model(tf.constant(log.user_ids[part.user].astype(str))).numpy()
        return users @ items.T

    return problem.rank(queries, scores)


TUTORIAL = Contender(
    "TFRS tutorial",
    "training time is that until its best epoch on validation; its queries/s are those of "
    "`model.evaluate` with `FactorizedTopK`; an unknown user or item has the embedding of unknowns",
    _fit,
    training=TRAINING,
    seeded=True,
)
