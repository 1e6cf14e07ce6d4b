"""Training a ranker on the candidates table and the logged exposures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from features.backend import tf
from features.entities import EncodedTable
from interactions.candidates import Candidates, Exposures
from interactions.errors import UserError
from interactions.histories import Histories
from ranking.config import RankingConfig
from ranking.loss import choice_loss, log_loss, squared_error
from ranking.model import RETRIEVAL, Past, Ranker, RankerInputs, Request
from ranking.scoring import Scorer
from training.average import weight_average
from training.fingerprint import flatten
from training.loop import Plan, Progression, restore, train
from training.optimizer import adam, apply_gradients, trained_weights

_MOST_EXPOSURES = 4096
"""Exposures in a batch at the most."""
_CONTEXT_DROPOUT = 0.2


@dataclass(frozen=True)
class Examples:
    """What a ranker learns from, or is validated on."""

    candidates: Candidates
    exposures: Exposures
    past: Past
    """What was known before the window that these come from."""


def fit_ranker(
    inputs: RankerInputs,
    training: Examples,
    *,
    validation: Examples | None,
    histories: Histories,
    context: EncodedTable,
    config: RankingConfig,
    folder: Path,
    seed: int,
    steps: int | None = None,
    console: Console | None = None,
) -> tuple[Ranker, Progression]:
    """Train a ranker until the weighted loss on `validation` no longer falls, or for `steps` steps.

    Raises:
        UserError: the candidates table is empty, or a checkpoint cannot be read.
        TrainingError: a loss is no finite number.
    """
    if not len(training.candidates.queries):
        raise UserError("the ranking window holds no chosen event; make split.ranking larger")
    tf.keras.utils.set_random_seed(seed)
    ranker = Ranker(inputs, config, training.past.copy())
    ranker.start_from_retrieval(retrieval_scale(training.candidates))
    scorer = Scorer(ranker, histories=histories, context=context)
    losses = Losses(ranker)
    batches = _Batches(training, scorer, config=config, seed=seed)
    schedule, weights = config.schedule, ranker.trainable_variables
    optimizer = adam(weights, config=schedule, steps=steps or schedule.max_epochs * batches.steps)

    @tf.function(reduce_retracing=True)
    def update(batch: Mapping[str, Any], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            by_task = losses(batch, seed)
            total = losses.total(by_task)
        apply_gradients(optimizer, tape, total, weights, config=schedule)
        return {"loss": total, **by_task}

    progression = train(
        Plan(
            name=folder.name,
            weights={"model": trained_weights(ranker)},
            batches=batches.epoch,
            steps_per_epoch=batches.steps,
            step=update,
            validate=None
            if validation is None
            else _Validation(validation, training.past, losses, scorer, config),
            optimizer=optimizer,
            average=weight_average(weights, config=schedule),
        ),
        config=schedule,
        folder=folder,
        seed=seed,
        steps=steps,
        max_minutes=config.max_minutes,
        fingerprint=flatten(
            {
                "ranking": config,
                "seed": seed,
                "ranking steps": steps,
                "ranking lists": len(training.candidates.queries),
                "exposures": len(training.exposures),
            }
        ),
        console=console,
    )
    return ranker, progression


def restore_ranker(
    inputs: RankerInputs, *, past: Past, config: RankingConfig, folder: Path
) -> Ranker:
    """Rebuild the ranker that `fit_ranker` left in `folder`, with what is known in `past`."""
    ranker = Ranker(inputs, config, past)
    restore(folder, model=trained_weights(ranker))
    return ranker


def retrieval_scale(candidates: Candidates) -> float:
    """Return the factor by which standardised retrieval scores make the likeliest logits.

    It maximises the likelihood of the chosen items under the weighted softmax of `choice_loss`, so
    that a new ranker starts as the best ranker there is that knows the retrieval score alone.
    """
    there = candidates.item >= 0
    chosen = candidates.label

    def loss(scale: float) -> float:
        logits = scale * candidates.retrieval_score + np.where(chosen, 0.0, candidates.log_weight)
        total = logsumexp(np.where(there, logits, -np.inf), axis=1)
        return float((total - scale * (candidates.retrieval_score * chosen).sum(axis=1)).mean())

    return float(minimize_scalar(loss, bounds=(0.1, 10.0), method="bounded").x)


class Losses:
    """The weighted losses of a ranker's tasks."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker

    def __call__(self, batch: Mapping[str, Any], seed: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the loss of each task on a batch of `_Batches`, a scalar each."""
        chosen = batch["choices"]
        predictions = self._ranker(_request(chosen), seed)
        losses = {
            RETRIEVAL: choice_loss(
                predictions[RETRIEVAL],
                label=chosen["label"],
                there=chosen["items"] >= 0,
                log_weight=chosen["log_weight"],
            )
        }
        others = [task for task in self._ranker.tasks if task != RETRIEVAL]
        if others:
            shown = batch["exposures"]
            predictions = self._ranker(
                _request(shown), None if seed is None else seed + tf.constant([1, 0])
            )
            for task in others:
                losses[task] = self._observed(task, predictions[task][:, 0], shown["labels"][task])
        return losses

    def total(self, losses: Mapping[str, tf.Tensor | float]) -> tf.Tensor:
        """Sum the losses by the tasks' weights."""
        return tf.add_n([self._ranker.tasks[task].weight * loss for task, loss in losses.items()])

    def _observed(self, task: str, prediction: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        if self._ranker.tasks[task].kind == "binary":
            return log_loss(prediction, label)
        return squared_error(prediction, label, std=self._ranker.inputs.label_std[task])


class _Batches:
    """Gathers batches of candidate lists and exposures."""

    def __init__(
        self, examples: Examples, scorer: Scorer, *, config: RankingConfig, seed: int
    ) -> None:
        self._examples, self._scorer, self._seed = examples, scorer, seed
        lists, shown = len(examples.candidates.queries), len(examples.exposures)
        self._size = min(config.batch_queries, lists)
        self.steps = max(lists // self._size, 1)
        self._shown = min(-(-shown // self.steps), _MOST_EXPOSURES)

    def epoch(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the batches of epoch `number`, the same ones each time."""
        rng = np.random.default_rng([self._seed, number])
        lists = rng.permutation(len(self._examples.candidates.queries))
        shown = rng.permutation(len(self._examples.exposures))
        for step in range(self.steps):
            part = slice(step * self._shown, (step + 1) * self._shown)
            yield self.batch(
                lists[step * self._size : (step + 1) * self._size], shown[part], rng=rng
            )

    def batch(
        self, lists: np.ndarray, shown: np.ndarray, *, rng: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Gather candidate lists and exposures by index; `rng` hides the context of some."""
        candidates = self._examples.candidates.take(lists)
        exposures = self._examples.exposures
        queries = exposures.queries.take(shown)
        return {
            "choices": self._scorer.inputs(candidates.queries, _hidden(candidates.queries.row, rng))
            | {
                "items": tf.constant(candidates.item),
                "score": tf.constant(candidates.retrieval_score),
                "label": tf.constant(candidates.label),
                "log_weight": tf.constant(candidates.log_weight),
            },
            "exposures": self._scorer.inputs(queries, _hidden(queries.row, rng))
            | {
                "items": tf.constant(queries.item[:, np.newaxis], tf.int32),
                "score": tf.constant(exposures.retrieval_score[shown][:, np.newaxis]),
                "labels": {
                    task: tf.constant(values[shown]) for task, values in exposures.labels.items()
                },
            },
        }


class _Validation:
    """The weighted loss on the validation window, negated, so that higher is better."""

    def __init__(
        self,
        examples: Examples,
        training_past: Past,
        losses: Losses,
        scorer: Scorer,
        config: RankingConfig,
    ) -> None:
        self._examples, self._training_past = examples, training_past
        self._losses, self._ranker = losses, scorer.ranker
        self._batches = _Batches(examples, scorer, config=config, seed=0)
        self._evaluate = tf.function(lambda batch: losses(batch, None), reduce_retracing=True)

    def __call__(self) -> float:
        self._ranker.past.replace(self._examples.past)
        lists = np.arange(len(self._examples.candidates.queries))
        shown = np.arange(len(self._examples.exposures))
        totals: dict[str, float] = {}
        steps = max(self._batches.steps, 1)
        for some, others in zip(
            np.array_split(lists, steps), np.array_split(shown, steps), strict=True
        ):
            for task, loss in self._evaluate(self._batches.batch(some, others)).items():
                totals[task] = totals.get(task, 0.0) + float(loss) / steps
        self._ranker.past.replace(self._training_past)
        return -float(self._losses.total(totals))


def _request(part: Mapping[str, Any]) -> Request:
    return Request(part["users"], part["history"], part["context"], part["items"], part["score"])


def _hidden(rows: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Replace some of the context's rows by -1, the unknown: many requests will not carry any."""
    return rows if rng is None else np.where(rng.random(len(rows)) < _CONTEXT_DROPOUT, -1, rows)
