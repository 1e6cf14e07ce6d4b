"""From hidden vectors to predictions: one head per task, on logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from features.backend import tf
from interactions.config import TaskConfig
from ranking.inputs import RankerInputs
from ranking.sides import RowsDense, Sides, SidesDense


@dataclass(frozen=True)
class Outputs:
    """Predictions, [B, C] float32 each, and what only the training asks for."""

    predictions: Mapping[str, tf.Tensor]
    """By task: the logit of retrieval and binary tasks, the label of a regression."""
    observed: Mapping[str, tf.Tensor]
    """By task corrected for selection: the logit of there being a label."""
    imputed: Mapping[str, tf.Tensor]
    """By doubly robust task: a guess of the label, as in `predictions`."""
    expected: Mapping[str, tf.Tensor] = field(default_factory=dict)
    """By factorised task: the label that its factors expect."""


class Heads(tf.Module):
    """One head per task: of the task's hidden vector, and straight of the plain numbers.

    A task that is `given` another is the chance of both, P(a) = P(b) P(a | b), and learns on every
    exposure (ESMM, Ma et al. 2018, section 2.3). What predicts whether a label is there, or fills
    it in, reads the hidden vectors without shaping them.
    """

    def __init__(self, inputs: RankerInputs) -> None:
        super().__init__(name="heads")
        self._inputs, self._tasks = inputs, dict(inputs.tasks)
        corrected = [name for name, task in self._tasks.items() if task.selection != "none"]
        robust = [name for name in corrected if self._tasks[name].selection == "doubly_robust"]
        self._heads = _heads(self._tasks, "head")
        self._observed = _heads(corrected, "observed")
        self._imputed = _heads(robust, "imputed")

    def __call__(self, hidden: Mapping[str, tf.Tensor], numbers: Sides) -> Outputs:
        """Predict from `hidden` [B, C, width] by task and plain `numbers`."""
        own = {task: head(hidden[task], numbers) for task, head in self._heads.items()}
        kept, plain = (
            {t: tf.stop_gradient(h) for t, h in hidden.items()},
            numbers.without_gradient(),
        )
        return Outputs(
            {task: self._label(task, self._joint(task, own)) for task in own},
            {task: head(kept[task], plain) for task, head in self._observed.items()},
            {
                task: self._label(task, head(kept[task], plain) + self._rate(task))
                for task, head in self._imputed.items()
            },
        )

    def number_of(self, task: str, label: tf.Tensor) -> tf.Tensor:
        """Return a task's expected label in standard deviations from the mean, of any shape.

        The head of a regression that is 1 times this number predicts the label.
        """
        return (label - self._inputs.label_mean[task]) / self._inputs.label_std[task]

    def start_linear(self, task: str, place: int, factor: float) -> None:
        """Make a new head `factor` times the candidate's number at `place`."""
        kernel = self._heads[task].wide.candidate_kernel
        kernel.assign(factor * tf.one_hot([place], kernel.shape[0], axis=0))

    def start_observed(self, task: str, share: float) -> None:
        """Let a new head of whether a label is there begin with the `share` of exposures."""
        self._observed[task].deep.bias.assign([_logit(share)])

    @property
    def corrected(self) -> tuple[str, ...]:
        """The tasks corrected for selection."""
        return tuple(self._observed)

    def _joint(self, task: str, own: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The task's output, all that it is given included."""
        output = own[task] + self._offset(task)
        given = self._tasks[task].given
        return output if given is None else logit_of_both(self._joint(given, own), output)

    def _label(self, task: str, output: tf.Tensor) -> tf.Tensor:
        """Turn a regression's output into a label between its bounds.

        Beyond a bound the gradient is that of the bound: a label inside still draws the output
        back, and one at the bound does not push it further. A sigmoid between the bounds would be
        all but flat where most labels lie at one end, as prices do.
        """
        if self._tasks[task].kind != "regression":
            return output
        label = self._inputs.label_mean[task] + self._inputs.label_std[task] * output
        bounds = self._inputs.bounds(task)
        if bounds is None:
            return label
        bounded = tf.clip_by_value(label, *bounds)
        # what is added is 0, and has the gradient that the clipped label lacks
        return tf.stop_gradient(bounded) + (label - tf.stop_gradient(label))

    def _offset(self, task: str) -> np.float32:
        """The logit that a head starts from: the rate of the task, given what it is given."""
        config: TaskConfig = self._tasks[task]
        if config.kind != "binary" or config.given is None:
            return self._rate(task)
        given = max(self._inputs.label_mean[config.given], 1e-4)
        return _logit(self._inputs.label_mean[task] / given)

    def _rate(self, task: str) -> np.float32:
        """The logit of the rate of a binary task, 0 of others."""
        binary = self._tasks[task].kind == "binary"
        return _logit(self._inputs.label_mean[task]) if binary else np.float32(0.0)


class _Head(tf.Module):
    """A number of a hidden vector and of plain numbers; 0 before it has learnt."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.deep = RowsDense(1, kernel_initializer="zeros", name=f"{name}_deep")
        self.wide = SidesDense(1, bias=False, initializer="zeros", name=f"{name}_wide")

    def __call__(self, hidden: tf.Tensor, numbers: Sides) -> tf.Tensor:
        """[B, C]."""
        return tf.squeeze(self.deep(hidden) + self.wide(numbers), axis=-1)


def _heads(tasks: Iterable[str], kind: str) -> dict[str, _Head]:
    """One head for each of `tasks`, by task; a task may be called what no module may."""
    return {task: _Head(f"{kind}_{place}") for place, task in enumerate(tasks)}


def logit_of_both(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Logit of sigmoid(one) * sigmoid(other), finite for all finite logits of the same shape.

    With p the product, p / (1 - p) = 1 / (e^-one + e^-other + e^-(one + other)).
    """
    return -tf.reduce_logsumexp(tf.stack([-one, -other, -one - other]), axis=0)


def _logit(rate: float) -> np.float32:
    rate = float(np.clip(rate, 1e-4, 1 - 1e-4))
    return np.float32(np.log(rate / (1 - rate)))
