"""Training a retriever on a window of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from features.backend import tf
from features.entities import EncodedTable
from interactions.errors import UserError
from interactions.log import NEVER, EventLog
from interactions.queries import first_choices
from retrieval.config import RetrievalConfig
from retrieval.loss import log_inclusion
from retrieval.model import Retriever, RetrieverInputs
from retrieval.windows import BatchMaker, cut_windows
from training.loop import Plan, Progression, restore, train
from training.optimizer import adam, apply_gradients, trained_weights


@dataclass(frozen=True)
class TrainingData:
    """What a retriever is allowed to know."""

    log: EventLog
    rows: np.ndarray
    """[n] int64: the log rows of its windows, sorted."""
    context: EncodedTable
    """Encoded event features by log row."""
    repeats: bool
    """Whether an item chosen again is a target again."""


def fit_retriever(
    inputs: RetrieverInputs,
    data: TrainingData,
    *,
    config: RetrievalConfig,
    folder: Path,
    seed: int,
    validate: Callable[[Retriever], float] | None = None,
    steps: int | None = None,
    console: Console | None = None,
) -> tuple[Retriever, Progression]:
    """Train a retriever until `validate` no longer improves, or for exactly `steps` steps.

    Raises:
        UserError: there is nothing to learn from, or a checkpoint cannot be read.
        TrainingError: the loss is no finite number.
    """
    tf.keras.utils.set_random_seed(seed)
    retriever = Retriever(inputs, config)
    batches = _batches(data, config=config, seed=seed)
    optimizer = adam(retriever.trainable_variables, config=config.schedule)
    first_seen = _first_seen(data)
    log_probability = _log_probability(batches, data.log)

    @tf.function(reduce_retracing=True)
    def update(
        batch: Mapping[str, tf.Tensor], context: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = retriever.loss(batch, context, seed)
        apply_gradients(
            optimizer, tape, loss, retriever.trainable_variables, config=config.schedule
        )
        return loss

    def step(batch: Mapping[str, Any], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = batch["row"]
        candidates = batch["items"][batch["candidates"]]
        tensors = {
            key: tf.constant(batch[key])
            for key in ("items", "sequence", "before", "position", "candidates", "positive")
        } | {
            "user": tf.constant(data.log.user[rows]),
            "time": tf.constant(data.log.time[rows]),
            "slot": tf.constant(inputs.trends.slot(data.log.time[rows])),
            "first_seen": tf.constant(first_seen[candidates]),
            "log_probability": tf.constant(log_probability[candidates]),
        }
        context = {
            name: tf.constant(values[batch["context_row"]])
            for name, values in data.context.arrays.items()
        }
        return {"loss": update(tensors, context, seed)}

    progression = train(
        Plan(
            name=folder.name,
            weights={"model": trained_weights(retriever), "optimizer": optimizer},
            batches=batches.epoch,
            steps_per_epoch=batches.steps,
            step=step,
            validate=None if validate is None else lambda: validate(retriever),
        ),
        config=config.schedule,
        folder=folder,
        seed=seed,
        steps=steps,
        console=console,
    )
    return retriever, progression


def restore_retriever(
    inputs: RetrieverInputs, *, config: RetrievalConfig, folder: Path
) -> Retriever:
    """Rebuild the retriever that `fit_retriever` left in `folder`."""
    retriever = Retriever(inputs, config)
    restore(folder, model=trained_weights(retriever))
    return retriever


def _batches(data: TrainingData, *, config: RetrievalConfig, seed: int) -> BatchMaker:
    log = data.log
    windows = cut_windows(log, data.rows, length=config.history)
    if not len(windows):
        raise UserError("there is no chosen event to train the retriever on; check data.positive")
    targets = np.ones(len(log), bool) if data.repeats else first_choices(log)
    per_window = len(windows.row) / len(windows)
    return BatchMaker(
        log=log,
        windows=windows,
        catalogue=np.unique(log.item[data.rows]).astype(np.int32),
        batch_windows=min(max(round(config.batch_events / per_window), 1), len(windows)),
        negatives=config.negatives,
        seed=seed,
        targets=targets,
    )


def _first_seen(data: TrainingData) -> np.ndarray:
    """[items] int64: when each item first appeared, as the training rows alone tell."""
    log, rows = data.log, data.rows
    first = np.full(len(log.item_ids), NEVER if log.has_times else np.iinfo(np.int64).min)
    np.minimum.at(first, log.item[rows], log.time[rows])
    return first


def _log_probability(batches: BatchMaker, log: EventLog) -> np.ndarray:
    """[items] float32: log of the probability to be among a batch's candidates."""
    windows = batches.windows
    window_of_target = np.repeat(np.arange(len(windows)), windows.stop - windows.first_target)
    begin = np.repeat(windows.first_target, windows.stop - windows.first_target)
    ahead = np.arange(len(begin)) - np.searchsorted(window_of_target, window_of_target)
    row = windows.row[begin + ahead]
    keep = batches.targets[row]
    pairs = np.unique(np.stack([window_of_target[keep], log.item[row[keep]]], axis=1), axis=0)
    count = np.bincount(pairs[:, 1], minlength=len(log.item_ids))
    uniform = min(batches.negatives, len(batches.catalogue)) / len(batches.catalogue)
    return log_inclusion(
        windows_with_item=count,
        windows=len(windows),
        batch_windows=batches.batch_windows,
        uniform_share=uniform,
    )
