"""Asking a ranker from Python, and making one order of its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.backend import tf
from features.entities import EncodedTable
from interactions.config import TaskConfig
from interactions.histories import Histories
from interactions.queries import Queries
from ranking.model import RETRIEVAL, Ranker, Request

_CELLS = 65_536
"""Candidates scored, or items of histories read, in one call."""


class Scorer:
    """A ranker with the histories and contexts of the log's events."""

    def __init__(self, ranker: Ranker, *, histories: Histories, context: EncodedTable) -> None:
        self.ranker = ranker
        self.histories, self.context = histories, context
        self._predict = tf.function(
            lambda users, history, context, candidates, score: ranker(
                Request(users, history, context, candidates, score)
            ),
            reduce_retracing=True,
        )

    def inputs(self, queries: Queries, context_rows: np.ndarray) -> dict[str, object]:
        """Gather the query side: `users` [Q], `history` [Q, H] and `context` by feature."""
        history = self.histories.before(
            queries.user, queries.time, length=self.ranker.config.history
        )
        return {
            "users": tf.constant(queries.user, tf.int32),
            "history": tf.constant(history.items, tf.int32),
            "context": {
                name: tf.constant(values[context_rows])
                for name, values in self.context.arrays.items()
            },
        }

    def predict(
        self, queries: Queries, items: np.ndarray, retrieval_score: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Predict for `items` [Q, C] int32 (-1 is none) with their `retrieval_score` [Q, C].

        Returns, by task, [Q, C] float32 as `Ranker` does.
        """
        step = max(_CELLS // max(items.shape[1], self.ranker.config.history), 1)
        parts: dict[str, list[np.ndarray]] = {task: [] for task in self.ranker.tasks}
        for start in range(0, len(queries), step):
            index = np.arange(start, min(start + step, len(queries)))
            chunk = queries.take(index)
            inputs = self.inputs(chunk, chunk.row)
            found = self._predict(
                inputs["users"],
                inputs["history"],
                inputs["context"],
                tf.constant(items[index], tf.int32),
                tf.constant(retrieval_score[index], tf.float32),
            )
            for task, values in found.items():
                parts[task].append(values.numpy())
        return {
            task: np.concatenate(values) if values else np.zeros(items.shape, np.float32)
            for task, values in parts.items()
        }


@dataclass(frozen=True)
class Order:
    """How the tasks' predictions make one score: a weighted sum of comparable utilities.

    The utility of the retrieval task is its logit; of a binary task, the log of its probability;
    of a regression, the prediction in standard deviations of the labels from their mean.
    """

    weights: Mapping[str, float]
    label_mean: Mapping[str, float]
    label_std: Mapping[str, float]
    kinds: Mapping[str, str]

    @classmethod
    def of(cls, ranker: Ranker, weights: Mapping[str, float]) -> Order:
        """Take the label scales from `ranker`; tasks without a weight get 0."""
        inputs = ranker.inputs
        kinds = {task: config.kind for task, config in ranker.tasks.items()}
        every = {task: float(weights.get(task, 0.0)) for task in kinds}
        return cls(every, dict(inputs.label_mean), dict(inputs.label_std), kinds)

    def score(self, predictions: Mapping[str, tf.Tensor] | Mapping[str, np.ndarray]) -> tf.Tensor:
        """Combine predictions by task, [B, C] float each, to [B, C] float."""
        total = tf.zeros_like(predictions[RETRIEVAL])
        for task, weight in self.weights.items():
            if weight:
                total += weight * self._utility(task, predictions[task])
        return total

    def _utility(self, task: str, prediction: tf.Tensor | np.ndarray) -> tf.Tensor:
        prediction = tf.convert_to_tensor(prediction)
        if self.kinds[task] == "binary":
            return tf.math.log_sigmoid(prediction)
        if self.kinds[task] == "regression":
            return (prediction - self.label_mean[task]) / self.label_std[task]
        return prediction


def reorder(items: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Sort the candidates `items` [Q, C] by `score` [Q, C], best first; -1 goes last."""
    return np.take_along_axis(items, best_first(items, score), axis=1)


def best_first(items: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the places of the candidates `items` [Q, C] by `score` [Q, C], [Q, C] int64."""
    return np.argsort(np.where(items >= 0, -score, np.inf), axis=1, kind="stable")


def readable(config: TaskConfig, prediction: tf.Tensor | np.ndarray) -> tf.Tensor:
    """Turn a ranker's output for a task, float of any shape, into what people read.

    Probabilities for binary tasks; for a regression with a declared range, labels within it.
    """
    value = tf.convert_to_tensor(prediction)
    if config.kind == "binary":
        return tf.sigmoid(value)
    if config.kind == "regression" and config.range is not None:
        return tf.clip_by_value(value, *config.range)
    return value
