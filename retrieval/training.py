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
from interactions.blocks import count_values
from interactions.log import EventLog
from retrieval.batches import LOSS_INPUTS, Batches
from retrieval.config import RetrievalConfig
from retrieval.continuation import Earlier, continue_from
from retrieval.mining import Miner
from retrieval.model import Retriever, RetrieverInputs
from retrieval.settling import Settled, kept, settle_once
from training.average import weight_average
from training.fingerprint import flatten
from training.loop import Plan, Progression, restore, train
from training.optimizer import adam, apply_gradients, trained_weights

_SETTLES = "sharpness, repeats"
"""What `retrieval.settling` finds: candidates of a run in which it found less do not go with it."""


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
    settled: Settled | None = None,
    earlier: Earlier | None = None,
    max_minutes: float | None = None,
    console: Console | None = None,
) -> tuple[Retriever, Progression]:
    """Train a retriever until `validate` no longer improves, or for exactly `steps` steps.

    It begins where `earlier` stands, if that is given, or else anew. At the end validation settles
    a few numbers, or they are as in `settled`, see `retrieval.settling`.

    Raises:
        UserError: there is nothing to learn from, a checkpoint cannot be read, or it was made by
            another config.
        TrainingError: the loss is no finite number.
    """
    tf.keras.utils.set_random_seed(seed)
    retriever = Retriever(inputs, config)
    if earlier is None:
        items = count_values(data.log.item, data.rows, size=len(data.log.item_ids))
        retriever.read_texts(np.flatnonzero(items))
    else:
        continue_from(earlier, retriever, inputs=inputs, context=data.context)
    batches = Batches(data.log, data.rows, config=config, repeats=data.repeats, seed=seed)
    if config.negatives.hard:
        batches.mine_with(
            Miner(
                retriever,
                batches.sequences,
                log=data.log,
                rows=data.rows,
                context=data.context,
                number=config.negatives.hard,
            )
        )
    schedule, weights = config.schedule, retriever.trainable_variables
    optimizer = adam(weights, config=schedule, steps=steps or schedule.max_epochs * batches.steps)

    @tf.function
    def update(
        batch: Mapping[str, tf.Tensor], context: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = retriever.loss(batch, context, seed)
        apply_gradients(optimizer, tape, loss, weights, config=schedule)
        return loss

    def step(batch: Mapping[str, Any], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        context = {
            name: tf.constant(values[batch["context_row"]])
            for name, values in data.context.arrays.items()
        }
        tensors = {name: tf.constant(batch[name]) for name in LOSS_INPUTS if name in batch}
        tensors["slot"] = tf.constant(inputs.trends.slot(batch["time"]))
        # traced once: a signature of its own for each length of window would cost seconds
        traced = update.get_concrete_function(  # pyright: ignore[reportFunctionMemberAccess]
            _any_size(tensors), _any_size(context), seed
        )
        return {"loss": traced(tensors, context, seed)}

    progression = train(
        Plan(
            name=folder.name,
            weights={"model": trained_weights(retriever)},
            batches=batches.epoch,
            steps_per_epoch=batches.steps,
            step=step,
            validate=None if validate is None else lambda: validate(retriever),
            optimizer=optimizer,
            average=weight_average(weights, config=schedule),
        ),
        config=schedule,
        folder=folder,
        seed=seed,
        steps=steps,
        max_minutes=max_minutes,
        fingerprint=flatten(
            {
                "retrieval": config,
                "seed": seed,
                "steps": steps,
                "rows": len(data.rows),
                "settles": _SETTLES,
            }
        ),
        console=console,
    )
    settle_once(
        retriever,
        folder=folder,
        step=progression.best_step,
        validate=validate,
        repeats=data.repeats,
        given=settled,
    )
    return retriever, progression


def _any_size(tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.TensorSpec]:
    """Return what holds for such tensors in every batch: types, and how many axes there are."""
    return {
        name: tf.TensorSpec([None] * len(tensor.shape), tensor.dtype)
        for name, tensor in tensors.items()
    }


def restore_retriever(
    inputs: RetrieverInputs, *, config: RetrievalConfig, folder: Path
) -> Retriever:
    """Rebuild the retriever that `fit_retriever` left in `folder`."""
    retriever = Retriever(inputs, config)
    restore(folder, model=trained_weights(retriever))
    kept(folder).apply(retriever)
    return retriever
