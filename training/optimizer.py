"""The optimiser of both stages: AdamW whose cost does not grow with the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from features.backend import tf
from features.distinct import distinct
from training.config import ScheduleConfig
from training.schedule import WarmupDecay

Gradient = Any
"""A tf.Tensor, or the tf.IndexedSlices that a lookup in a table leaves."""


class LazyAdamW(tf.keras.optimizers.Adam):
    """AdamW (Loshchilov and Hutter 2019) that touches only the rows of a table that a step used.

    A dense gradient is applied as Keras's AdamW does. Of a table whose gradient is a
    tf.IndexedSlices, only the rows in it change: they, and their moments, are gathered, updated,
    decayed and scattered back; the others stay as they are, moments included. Bias is corrected by
    how often the row itself was used: by the global step, as in TensorFlow Addons' LazyAdam, a row
    that is used now and then would take steps several times the learning rate. Variables of one
    dimension, and those named bias, are not decayed.

    The gradient of `tf.gather(variable, ids)` and of `tf.nn.embedding_lookup` is sparse, also in a
    tf.function, where they are given the variable itself. It becomes dense, and the step's cost
    that of the whole table, where an op comes between: `tf.identity`, `tf.concat`, `+ 0.0`,
    `tf.cast`, or any other use of the whole table beside the lookup.
    """

    def __init__(self, learning_rate: Any, *, weight_decay: float) -> None:
        # Keras's own weight decay, a dense pass over every table, stays off
        super().__init__(learning_rate, weight_decay=None, jit_compile=False, name="lazy_adamw")
        self._decay = weight_decay
        self.gradient_norm = tf.Variable(tf.zeros([]), trainable=False, name="gradient_norm")
        """Global norm of the last step's gradients, before clipping; a scalar float32."""

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Create the moments, and of every table how often each row was used."""
        if getattr(self, "_built", False):
            return  # Keras asks at each step
        super().build(var_list)
        self._uses = [
            tf.Variable(tf.zeros(variable.shape[:1] if len(variable.shape) > 1 else [0]))
            for variable in var_list
        ]

    def update_step(self, gradient: Gradient, variable: tf.Variable) -> None:
        """Update one variable; `gradient` has its shape, or is of some of its rows, each once."""
        decay = self._decay if _is_decayed(variable) else 0.0
        if isinstance(gradient, tf.IndexedSlices):
            self._update_rows(gradient, variable, decay=decay)
            return
        if decay:
            variable.assign_sub(variable * decay * self.learning_rate)
        super().update_step(gradient, variable)

    def _update_rows(self, gradient: Any, variable: tf.Variable, *, decay: float) -> None:
        place = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[place], self._velocities[place]
        rows, values = gradient.indices, gradient.values
        uses = tf.gather(self._uses[place], rows) + 1.0
        correction = tf.sqrt(1.0 - self.beta_2**uses) / (1.0 - self.beta_1**uses)
        mean, square = tf.gather(first, rows), tf.gather(second, rows)
        mean += (values - mean) * (1.0 - self.beta_1)
        square += (tf.square(values) - square) * (1.0 - self.beta_2)
        old = tf.gather(variable, rows)
        rate = self.learning_rate * tf.reshape(correction, [-1] + [1] * (len(old.shape) - 1))
        change = mean * rate / (tf.sqrt(square) + self.epsilon)
        new = old - old * decay * self.learning_rate - change
        kept = (self._uses[place], uses), (first, mean), (second, square), (variable, new)
        for target, value in kept:
            target.scatter_update(tf.IndexedSlices(value, rows))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras asks for them."""
        rate = self._serialize_hyperparameter(self._learning_rate)
        return {"learning_rate": rate, "weight_decay": self._decay}


def adam(
    variables: Sequence[tf.Variable], *, config: ScheduleConfig, steps: int | None = None
) -> LazyAdamW:
    """Make the optimiser of `variables`, its slots created.

    `steps` is the length of the whole training (of `max_epochs`, or exactly as many as are asked
    for). Raises ValueError where the learning rate decays and `steps` is None, and where a variable
    stands twice among `variables`, which would take two steps for one.
    """
    if len({variable.ref() for variable in variables}) < len(variables):
        raise ValueError("a variable stands twice among those to be optimised")
    optimizer = LazyAdamW(WarmupDecay(config, steps=steps), weight_decay=config.weight_decay)
    optimizer.build(variables)
    return optimizer


def apply_gradients(
    optimizer: LazyAdamW,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    variables: Sequence[tf.Variable],
    *,
    config: ScheduleConfig,
) -> None:
    """Take one step down the clipped gradient of `loss`; variables it does not use stay."""
    pairs = [
        (_summed(gradient), variable)
        for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
        if gradient is not None
    ]
    norm = tf.linalg.global_norm([gradient for gradient, _ in pairs])
    optimizer.gradient_norm.assign(norm)
    scale = config.clip_norm / tf.maximum(norm, config.clip_norm)
    optimizer.apply_gradients(
        [(_scaled(gradient, scale), variable) for gradient, variable in pairs]
    )


def trained_weights(model: tf.Module) -> Any:
    """Return what a checkpoint keeps of `model`: the trained variables, by their order.

    The encoded tables are left out; they are made again from the data.
    """
    return tf.train.Checkpoint(**named(model.trainable_variables))


def named(variables: Iterable[tf.Variable]) -> dict[str, tf.Variable]:
    """Name variables by their order, as checkpoints do."""
    return {f"v{index}": variable for index, variable in enumerate(variables)}


def _summed(gradient: Gradient) -> Gradient:
    """Add up what falls on the same row, without which the norm of a sparse gradient is wrong."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    # the shape of a variable's gradient is a constant, unlike how many rows there are in it
    shape = tf.get_static_value(gradient.dense_shape)
    rows, place = distinct(gradient.indices, size=None if shape is None else int(shape[0]))
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _scaled(gradient: Gradient, scale: tf.Tensor) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * scale


def _is_decayed(variable: tf.Variable) -> bool:
    return len(variable.shape) > 1 and "bias" not in variable.name
