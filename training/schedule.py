"""The learning rate by step."""

from __future__ import annotations

import math
from typing import Any

from features.backend import tf
from training.config import ScheduleConfig


class WarmupDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a constant, cosine or linear course to zero at the last step.

    A function of the number of updates alone, which checkpoints hold: a resumed run goes on
    exactly. The cosine is that of Loshchilov and Hutter (2017), equation 5, without restarts.
    """

    def __init__(self, config: ScheduleConfig, *, steps: int | None) -> None:
        """`steps` is the length of the whole training, needed where the learning rate decays.

        Raises:
            ValueError: the learning rate decays and there are no `steps`.
        """
        if config.decay != "none" and steps is None:
            raise ValueError(f"decay {config.decay} needs the number of steps of the training")
        self._config, self._steps = config, steps

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate, a scalar float32, after `step` updates (a scalar)."""
        done = tf.cast(step, tf.float32)
        warmup = self._config.warmup_steps
        rate = tf.constant(self._config.learning_rate)
        if warmup:
            rate *= tf.minimum((done + 1.0) / warmup, 1.0)
        if self._config.decay == "none" or self._steps is None:
            return rate
        progress = tf.clip_by_value((done - warmup) / max(self._steps - warmup, 1), 0.0, 1.0)
        if self._config.decay == "cosine":
            return rate * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return rate * (1.0 - progress)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras asks for them."""
        return {"config": self._config.model_dump(), "steps": self._steps}
