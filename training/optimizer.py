"""The optimiser of both stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.backend import tf
from training.config import ScheduleConfig


def adam(
    variables: Sequence[tf.Variable], *, config: ScheduleConfig
) -> tf.keras.optimizers.Optimizer:
    """Make AdamW (Loshchilov and Hutter 2019), its slots created, biases left undecayed."""
    optimizer = tf.keras.optimizers.AdamW(
        config.learning_rate, weight_decay=config.weight_decay, jit_compile=False
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    return optimizer


def apply_gradients(
    optimizer: tf.keras.optimizers.Optimizer,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    variables: Sequence[tf.Variable],
    *,
    config: ScheduleConfig,
) -> None:
    """Take one step down the clipped gradient of `loss`; variables it does not use stay."""
    gradients = tape.gradient(loss, variables)
    gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm)
    optimizer.apply_gradients(
        (gradient, variable)
        for gradient, variable in zip(gradients, variables, strict=True)
        if gradient is not None
    )


def trained_weights(model: tf.Module) -> Any:
    """Return what a checkpoint keeps of `model`: the trained variables, by their order.

    The encoded tables are left out; they are made again from the data.
    """
    return tf.train.Checkpoint(
        **{f"v{index}": variable for index, variable in enumerate(model.trainable_variables)}
    )
