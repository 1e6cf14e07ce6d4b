"""Training a ranker on the candidates table and the logged exposures."""

from __future__ import annotations

from collections.abc import Mapping
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
from ranking.balance import balance_of
from ranking.batches import Batches, Examples
from ranking.calibration import (
    Blend,
    Calibrator,
    fit_blend,
    fit_calibrator,
    load_calibration,
    save_calibration,
)
from ranking.config import RankingConfig
from ranking.inputs import RETRIEVAL, RankerInputs
from ranking.model import Ranker
from ranking.objective import Objective
from ranking.past import Past
from ranking.scoring import Scorer
from training.average import weight_average
from training.fingerprint import flatten
from training.loop import Plan, Progression, restore, train
from training.optimizer import adam, apply_gradients, named, trained_weights

__all__ = ["Examples", "fit_ranker", "restore_ranker", "retrieval_scale"]

_CALIBRATION = "calibration.json"
_MOST_LISTS = 2_000
"""Validation lists that the retrieval task is calibrated on, spread over the window."""
_LEAST_COUNT = 1e-6
"""What a task's labels count together at least, so that one without any has a loss of 0."""


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
    calibrators: Mapping[str, Calibrator] | None = None,
    console: Console | None = None,
) -> tuple[Ranker, Progression]:
    """Train a ranker until the weighted loss on `validation` no longer falls, or for `steps` steps.

    Its predictions are calibrated on `validation`, or by `calibrators` where they are given.

    Raises:
        UserError: the candidates table is empty, or a checkpoint cannot be read.
        TrainingError: a loss is no finite number.
    """
    if not len(training.candidates.queries):
        raise UserError("the ranking window holds no chosen event; make split.ranking larger")
    tf.keras.utils.set_random_seed(seed)
    ranker = Ranker(inputs, config, training.past.copy())
    start_from(ranker, training)
    scorer = Scorer(ranker, histories=histories, context=context)
    objective = Objective(ranker)
    batches = Batches(training, scorer, config=config, seed=seed)
    balance = balance_of(
        config,
        ranker.tasks,
        weights=objective.weights,
        shared=ranker.last_shared,
        variables=ranker.trainable_variables,
    )
    schedule = config.schedule
    variables = [*ranker.trainable_variables, *balance.trainable_variables]
    optimizer = adam(variables, config=schedule, steps=steps or schedule.max_epochs * batches.steps)

    @tf.function(reduce_retracing=True)
    def update(batch: Mapping[str, Any], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            losses = objective(batch, seed)
            balanced = balance(losses, tape, seed)
        apply_gradients(optimizer, tape, balanced.total, variables, config=schedule)
        return {
            "loss": balanced.total,
            **losses,
            **{f"weight/{task}": value for task, value in balanced.weights.items()},
            **{f"gradient_norm/{task}": n for task, n in balanced.gradient_norms.items()},
        }

    progression = train(
        Plan(
            name=folder.name,
            weights={
                "model": trained_weights(ranker),
                "balance": tf.train.Checkpoint(**named(balance.variables)),
            },
            batches=batches.epoch,
            steps_per_epoch=batches.steps,
            step=update,
            validate=None
            if validation is None
            else _Validation(validation, training.past, objective, scorer, config),
            optimizer=optimizer,
            average=weight_average(variables, config=schedule),
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
    if calibrators is None:
        calibrators = {} if validation is None else _calibrators(scorer, validation, config)
        ranker.past.replace(training.past)
    ranker.calibrate(calibrators)
    save_calibration(calibrators, folder / _CALIBRATION)
    return ranker, progression


def restore_ranker(
    inputs: RankerInputs, *, past: Past, config: RankingConfig, folder: Path
) -> Ranker:
    """Rebuild the ranker that `fit_ranker` left in `folder`, with what is known in `past`.

    Raises `UserError` where it or its calibration cannot be read.
    """
    ranker = Ranker(inputs, config, past)
    restore(folder, model=trained_weights(ranker))
    ranker.calibrate(load_calibration(folder / _CALIBRATION))
    return ranker


def start_from(ranker: Ranker, examples: Examples) -> None:
    """Let a new ranker begin as the best one that knows only retrieval score and factors.

    The factors are those of regressions; a binary task begins as its rate.
    """
    ranker.start_from_retrieval(retrieval_scale(examples.candidates))
    ranker.start_from_factors()
    for task in ranker.heads.corrected:
        labels = examples.exposures.labels[task]
        ranker.heads.start_observed(task, 1 - float(np.isnan(labels).mean()) if len(labels) else 0)


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


class _Validation:
    """The weighted loss on the validation window, negated, so that higher is better."""

    def __init__(
        self,
        examples: Examples,
        training_past: Past,
        objective: Objective,
        scorer: Scorer,
        config: RankingConfig,
    ) -> None:
        self._examples, self._training_past = examples, training_past
        self._objective, self._ranker = objective, scorer.ranker
        self._batches = Batches(examples, scorer, config=config, seed=0)
        self._evaluate = tf.function(lambda batch: objective(batch, None), reduce_retracing=True)

    def __call__(self) -> float:
        self._ranker.past.replace(self._examples.past)
        sums, counts = (dict.fromkeys(self._ranker.tasks, 0.0) for _ in range(2))
        for batch in self._batches.parts():
            counted = self._objective.counted(batch)
            for task, loss in self._evaluate(batch).items():
                sums[task] += float(loss) * counted[task]
                counts[task] += counted[task]
        self._ranker.past.replace(self._training_past)
        means = {task: sums[task] / max(counts[task], _LEAST_COUNT) for task in sums}
        return -float(self._objective.total(means))


def _calibrators(
    scorer: Scorer, validation: Examples, config: RankingConfig
) -> dict[str, Calibrator]:
    """Fit how predictions are calibrated: on the lists and on the exposures of validation."""
    ranker, shown = scorer.ranker, validation.exposures
    if config.calibration == "none":
        return {}
    ranker.past.replace(validation.past)
    result: dict[str, Calibrator] = {RETRIEVAL: _blend(scorer, validation.candidates)}
    if not len(shown):
        return result
    found = _predictions(scorer, shown)
    users, items = (tf.constant(r, tf.int32) for r in (shown.queries.user, shown.queries.item))
    known = {
        task: labels[:, 0].numpy()
        for task, labels in ranker.expected(users, items[:, tf.newaxis]).items()
        if task in ranker.tasks and ranker.tasks[task].kind == "regression"
    }
    return result | {
        task: fit_calibrator(
            found[task],
            shown.labels[task],
            shown.queries.user,
            kind=ranker.tasks[task].kind,
            method=config.calibration,
            known=known.get(task),
            spread=ranker.past.spread(task, known[task]) if task in known else None,
        )
        for task in ranker.tasks
        if task != RETRIEVAL
    }


def _blend(scorer: Scorer, lists: Candidates) -> Blend:
    index = np.linspace(0, len(lists.queries) - 1, min(len(lists.queries), _MOST_LISTS))
    some = lists.take(np.unique(index.astype(np.int64)))
    found = scorer.predict(some.queries, some.item, some.retrieval_score)
    return fit_blend(found[RETRIEVAL], some.retrieval_score, some.label, some.item >= 0)


def _predictions(scorer: Scorer, shown: Exposures) -> dict[str, np.ndarray]:
    """By task, [exposures] float32."""
    found = scorer.predict(
        shown.queries, shown.queries.item[:, np.newaxis], shown.retrieval_score[:, np.newaxis]
    )
    return {task: values[:, 0] for task, values in found.items()}
