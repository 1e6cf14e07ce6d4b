"""The loss of every task on a batch of candidate lists and pages of exposures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.backend import tf
from interactions.config import TaskConfig
from ranking.heads import Outputs
from ranking.inputs import RETRIEVAL, Request
from ranking.loss import choice_loss, log_losses, squared_errors
from ranking.model import Ranker
from ranking.selection import doubly_robust, inverse_propensity, observed_mean

_LEAST_CURVATURE = 1e-3
"""Of labels that are nearly all alike, so that their loss does not count without bounds."""


class Objective:
    """The losses of a ranker's tasks: retrieval on candidate lists, the others on exposures."""

    def __init__(self, ranker: Ranker) -> None:
        """Weigh the losses of a `ranker`."""
        self._ranker = ranker
        self.weights = {
            name: task.weight / _curvature(task, ranker.inputs.label_mean.get(name))
            for name, task in ranker.tasks.items()
        }
        """By task, what its loss counts: the config's weight, over the curvature of the loss by the
        task's own output while nothing but the labels' distribution is known. So equal weights draw
        all outputs as fast to where they are best, as Newton's method would, whatever the scale of
        the losses: left as it is, that of a choice among many outweighs that of a rare event."""

    def __call__(self, batch: Mapping[str, Any], seed: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the loss of each task on a batch of `ranking.batches`, a scalar each."""
        chosen, shown = batch["choices"], batch["exposures"]
        others = [task for task in self._ranker.tasks if task != RETRIEVAL]
        of_lists, *of_pages = self._ranker.outputs(
            [_request(chosen), *([_request(shown)] if others else [])], seed
        )
        losses = {
            RETRIEVAL: choice_loss(
                of_lists.predictions[RETRIEVAL],
                label=chosen["label"],
                there=chosen["items"] >= 0,
                log_weight=chosen["log_weight"],
                weight=chosen["weight"],
            )
        }
        return losses | {task: self._observed(task, of_pages[0], shown) for task in others}

    def total(self, losses: Mapping[str, tf.Tensor | float]) -> tf.Tensor:
        """Sum the losses by the tasks' weights."""
        return tf.add_n([self.weights[task] * loss for task, loss in losses.items()])

    def counted(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Return what each task's loss of a batch is a mean over: a sum of weights, by task."""
        chosen, shown = batch["choices"], batch["exposures"]
        found = tf.cast(tf.reduce_any(chosen["label"], axis=1), tf.float32)
        counts = {RETRIEVAL: float(tf.reduce_sum(found * chosen["weight"]))}
        for task, config in self._ranker.tasks.items():
            if task != RETRIEVAL:
                # the doubly robust loss is one of every exposure
                robust = config.selection == "doubly_robust"
                there = robust | ~tf.math.is_nan(shown["labels"][task])
                counts[task] = float(tf.reduce_sum(tf.where(there, shown["weight"], 0.0)))
        return counts

    def _observed(self, task: str, outputs: Outputs, shown: Mapping[str, Any]) -> tf.Tensor:
        """Loss of a task on its labelled exposures, corrected for which these are if asked to."""
        labels, weight = shown["labels"][task], shown["weight"]
        there = tf.logical_not(tf.math.is_nan(labels))
        labels = tf.where(there, labels, 0.0)
        predictions = outputs.predictions[task]
        losses = self._row_losses(task, predictions, labels)
        if task not in outputs.observed:
            return observed_mean(losses, there, weight)
        present = tf.cast(there, tf.float32)
        chance_loss = observed_mean(log_losses(outputs.observed[task], present), weight > 0, weight)
        chance = tf.sigmoid(outputs.observed[task])
        if task not in outputs.imputed:
            corrected = inverse_propensity(losses, there, weight, chance=chance)
            return corrected + _only_gradient(chance_loss)
        imputed = outputs.imputed[task]
        learnt = inverse_propensity(
            self._row_losses(task, imputed, labels), there, weight, chance=chance
        )
        corrected = doubly_robust(
            predictions,
            labels,
            there,
            weight,
            chance=chance,
            imputed=self._as_label(task, imputed),
            row_loss=lambda value, label: self._row_losses(task, value, label),
        )
        return corrected + _only_gradient(chance_loss + learnt)

    def _row_losses(self, task: str, prediction: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        if self._ranker.tasks[task].kind == "binary":
            return log_losses(prediction, label)
        return squared_errors(prediction, label, std=self._ranker.inputs.label_std[task])

    def _as_label(self, task: str, prediction: tf.Tensor) -> tf.Tensor:
        config: TaskConfig = self._ranker.tasks[task]
        return tf.sigmoid(prediction) if config.kind == "binary" else prediction


def _curvature(task: TaskConfig, rate: float | None) -> float:
    """The mean second derivative of the loss by the task's output, at a constant prediction.

    Of a squared error, in units of the variance, 2; of the log loss of a label of the given rate
    the label's variance; of a choice the sum of those of the candidates, 1 where they are many.
    """
    if task.kind == "regression":
        return 2.0
    if task.kind == "retrieval" or rate is None:
        return 1.0
    return max(rate * (1 - rate), _LEAST_CURVATURE)


def _only_gradient(loss: tf.Tensor) -> tf.Tensor:
    """Return 0 with the gradient of `loss`: what only serves the training is not shown as loss."""
    return loss - tf.stop_gradient(loss)


def _request(part: Mapping[str, Any]) -> Request:
    return Request(part["users"], part["history"], part["context"], part["items"], part["score"])
