"""A moving average of weights: validated and kept, while training goes on with the raw ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from features.backend import tf
from training.config import ScheduleConfig
from training.optimizer import named

_WEIGHTS_PER_STEP = 250_000
"""Weights that averaging may pass over per step of training: less than a millisecond's work."""


class WeightAverage:
    """Exponential moving average of variables (Polyak and Juditsky 1992).

    After t steps the momentum of one step is min(momentum, (1 + t) / (10 + t)), so that the start
    is soon forgotten. A model of more than 250 000 weights is averaged every n steps, n how many
    times it is larger, with the momentum to the power of the steps since; so the cost per step does
    not grow with the tables. (With more than 250 000 / (1 - momentum) weights, n steps are longer
    than the average's memory, which then is about n.) Nothing depends on time: a resumed run
    averages as an uninterrupted one.
    """

    def __init__(self, variables: Sequence[tf.Variable], *, momentum: float) -> None:
        self._variables = tuple(variables)
        self._momentum = momentum
        self._averages = [tf.Variable(variable, trainable=False) for variable in variables]
        self._step = tf.Variable(tf.zeros([], tf.int64), trainable=False)
        size = sum(int(variable.shape.num_elements()) for variable in variables)
        self.every = max(-(-size // _WEIGHTS_PER_STEP), 1)
        """Steps from one averaging to the next."""
        self._blend = tf.function(self._move)
        self._exchange = tf.function(self._swap)

    @property
    def state(self) -> Any:
        """What a checkpoint holds of it."""
        return tf.train.Checkpoint(step=self._step, **named(self._averages))

    def update(self, step: int) -> None:
        """Tell that `step` steps were done; takes the weights in where it is time to."""
        if step % self.every == 0:
            self._catch_up(step)

    @contextmanager
    def in_place(self, step: int) -> Iterator[None]:
        """Put the averages of `step` steps in the place of the weights, and the weights back."""
        self._catch_up(step)
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _catch_up(self, step: int) -> None:
        behind = step - int(self._step)
        if behind > 0:
            momentum = min(self._momentum, (1 + step) / (10 + step))
            self._blend(tf.constant(1.0 - momentum**behind))
            self._step.assign(step)

    def _move(self, share: tf.Tensor) -> None:
        for average, variable in zip(self._averages, self._variables, strict=True):
            average.assign_add((variable - average) * share)

    def _swap(self) -> None:
        for average, variable in zip(self._averages, self._variables, strict=True):
            raw, smooth = variable.read_value(), average.read_value()
            variable.assign(smooth)
            average.assign(raw)


def weight_average(
    variables: Sequence[tf.Variable], *, config: ScheduleConfig
) -> WeightAverage | None:
    """Make the average that `config` asks for; None where `average` is 0."""
    return WeightAverage(variables, momentum=config.average) if config.average else None
