"""How much each task's loss counts in a step: fixed weights, or weights found while training.

Every method comes down to one weight per task and step, so a step is always one gradient of one
weighted sum. The config's task weights scale the losses before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from features.backend import tf
from interactions.config import TaskConfig
from ranking.config import RankingConfig

Losses = Mapping[str, tf.Tensor]
_MOST_CERTAIN = 10.0
"""Bound of the logarithm of a task's variance, which a loss of 0 would move without end."""


@dataclass(frozen=True)
class Balanced:
    """What a step minimises, and how it came to it."""

    total: tf.Tensor
    """Scalar float32."""
    weights: Mapping[str, tf.Tensor]
    """By task: what its own loss counts for, the config's weight included."""
    gradient_norms: Mapping[str, tf.Tensor]
    """By task: norm of its unweighted loss's gradient in the last shared layer."""


class Balance(Protocol):
    """Makes one loss of several."""

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """What the optimiser learns beside the model."""
        ...

    def __call__(self, losses: Losses, tape: tf.GradientTape, seed: tf.Tensor) -> Balanced:
        """Weigh the scalar `losses` by task; `tape` is persistent and has recorded them."""
        ...


def balance_of(
    config: RankingConfig,
    tasks: Mapping[str, TaskConfig],
    *,
    weights: Mapping[str, float],
    shared: Sequence[tf.Variable],
    variables: Sequence[tf.Variable],
) -> Balance:
    """Make the balance that `config` asks for.

    Args:
        config: of the ranker.
        tasks: by name, their config with its weight.
        weights: by task, the config's weight in units that make the losses comparable. Methods that
            find such units themselves start from the config's own.
        shared: weights of the last layer that several tasks use.
        variables: all weights of the model.
    """
    given = {name: task.weight for name, task in tasks.items()}
    if config.balance == "uncertainty":
        kinds = {name: task.kind for name, task in tasks.items()}
        return Uncertainty(given, kinds=kinds, shared=shared)
    if config.balance == "gradnorm":
        return GradNorm(
            given,
            shared=shared,
            alpha=config.gradnorm_alpha,
            learning_rate=config.gradnorm_learning_rate,
        )
    if config.balance == "pcgrad":
        return PCGrad(weights, shared=shared, variables=variables)
    return Fixed(weights, shared=shared)


@dataclass(frozen=True)
class _Borrowed:
    """Weights of the model that a balance looks at.

    A module takes the variables in its lists for its own, and the optimiser is given a balance's
    own beside the model's: each would stand there twice, and take two steps for one.
    """

    of_model: tuple[tf.Variable, ...]


class Fixed(tf.Module):
    """The weights of the config, and nothing else."""

    def __init__(self, weights: Mapping[str, float], *, shared: Sequence[tf.Variable]) -> None:
        super().__init__(name="fixed")
        self._given, self._shared = dict(weights), _Borrowed(tuple(shared))

    def __call__(self, losses: Losses, tape: tf.GradientTape, seed: tf.Tensor) -> Balanced:
        """Sum the weighted losses."""
        with tape.stop_recording():
            norms = _norms(losses, tape, self._shared.of_model)
        weights = {task: tf.constant(self._given[task]) for task in losses}
        return Balanced(_sum(losses, weights), weights, norms)


class Uncertainty(tf.Module):
    """Weights by each task's noise, learnt with the model (Kendall et al. 2018, equation 10).

    A task with noise s adds loss / (2 s^2) + log s as a regression and loss / s^2 + log s as a
    classification; log s^2 is learnt, beginning with 0.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        kinds: Mapping[str, str],
        shared: Sequence[tf.Variable],
    ) -> None:
        super().__init__(name="uncertainty")
        self._given, self._shared = dict(weights), _Borrowed(tuple(shared))
        self._half = {task: 0.5 if kinds[task] == "regression" else 1.0 for task in weights}
        self._log_variance = {
            task: tf.Variable(tf.zeros([]), name=f"log_variance_{place}")
            for place, task in enumerate(weights)
        }

    def __call__(self, losses: Losses, tape: tf.GradientTape, seed: tf.Tensor) -> Balanced:
        """Sum losses over their variance, and the log of the noise."""
        with tape.stop_recording():
            norms = _norms(losses, tape, self._shared.of_model)
        weights = {
            task: self._given[task] * self._half[task] * tf.exp(-self._bounded(task))
            for task in losses
        }
        # the config's weight scales the whole term, so that it does not move the noise; a batch
        # without a label of the task says nothing of it, and must not make it look certain
        noise = tf.add_n(
            [
                0.5 * self._given[task] * tf.where(loss != 0.0, self._bounded(task), 0.0)
                for task, loss in losses.items()
            ]
        )
        return Balanced(_sum(losses, weights) + noise, weights, norms)

    def _bounded(self, task: str) -> tf.Tensor:
        return tf.clip_by_value(self._log_variance[task], -_MOST_CERTAIN, _MOST_CERTAIN)


class GradNorm(tf.Module):
    """Weights that let all tasks train at a like rate (Chen et al. 2018, algorithm 1).

    Each task's weighted gradient norm in the last shared layer is drawn to the mean norm times
    (how little its loss has fallen, relative to the others) ** `alpha`; the weights then add up to
    the number of tasks. The config's weights count beside: a task of twice the weight ends with
    twice the norm. A weight moves by `learning_rate` at most, and not past its target, however
    its loss is scaled: the paper's gradient has the norm as a factor, and jumps to and fro where
    that is large. A task's first loss above 0 is what its fall is measured from.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        shared: Sequence[tf.Variable],
        alpha: float,
        learning_rate: float,
    ) -> None:
        super().__init__(name="gradnorm")
        self._given, self._shared = dict(weights), _Borrowed(tuple(shared))
        self._alpha, self._rate = alpha, learning_rate
        tasks = len(weights)
        self.weights = tf.Variable(tf.ones([tasks]), trainable=False, name="task_weights")
        """[tasks] float32, in the order of the tasks."""
        self._first = tf.Variable(tf.zeros([tasks]), trainable=False, name="first_losses")

    def __call__(self, losses: Losses, tape: tf.GradientTape, seed: tf.Tensor) -> Balanced:
        """Sum by the weights so far, and move them for the next step."""
        with tape.stop_recording():
            norms = _norms(losses, tape, self._shared.of_model)
            now = tf.identity(self.weights)
            self._move(
                now,
                tf.stack([losses[task] for task in self._given]),
                tf.stack([norms[task] for task in self._given]),
            )
        weights = {task: self._given[task] * now[n] for n, task in enumerate(self._given)}
        return Balanced(_sum(losses, weights), weights, norms)

    def _move(self, weights: tf.Tensor, losses: tf.Tensor, norms: tf.Tensor) -> None:
        first = tf.where(self._first > 0, self._first, losses)
        self._first.assign(first)
        # a task without a label in this batch has no rate to compare
        here = tf.cast((losses > 0) & (norms > 0), tf.float32)
        count = tf.maximum(tf.reduce_sum(here), 1.0)
        left = tf.where(here > 0, losses / tf.maximum(first, 1e-12), 0.0)
        rate = left / tf.maximum(tf.reduce_sum(left) / count, 1e-12)
        weighted = weights * norms
        target = tf.reduce_sum(weighted * here) / count * rate**self._alpha
        # down the gradient of |weighted - target| with the target held still
        gap = (weighted - target) / tf.maximum(norms, 1e-12)
        moved = weights - here * tf.clip_by_value(gap, -self._rate, self._rate)
        moved = tf.maximum(moved, 1e-3)
        self.weights.assign(moved * len(self._given) / tf.reduce_sum(moved))


class PCGrad(tf.Module):
    """Gradients that do not work against each other (Yu et al. 2020, algorithm 1).

    Each task's gradient loses what points against another's, one other after the other in random
    order. What is left is a sum of the tasks' gradients, whose factors follow from their products
    alone: so they become the weights of the losses, and no projected gradient is ever held. Weights
    of one task alone are among them, as in the authors' code: they bound how much a task that
    hardly pulls on the shared ones can come to count.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        shared: Sequence[tf.Variable],
        variables: Sequence[tf.Variable],
    ) -> None:
        super().__init__(name="pcgrad")
        self._given, self._shared = dict(weights), _Borrowed(tuple(shared))
        self._variables = _Borrowed(tuple(variables))

    def __call__(self, losses: Losses, tape: tf.GradientTape, seed: tf.Tensor) -> Balanced:
        """Sum with the factors that the projections leave."""
        with tape.stop_recording():
            norms = _norms(losses, tape, self._shared.of_model)
            gradients = [
                [
                    None if one is None else _scaled(one, self._given[task])
                    for one in tape.gradient(losses[task], self._variables.of_model)
                ]
                for task in self._given
            ]
            factors = projected_factors(_products(gradients), seed)
        weights = {task: self._given[task] * factors[n] for n, task in enumerate(self._given)}
        return Balanced(_sum(losses, weights), weights, norms)


def projected_factors(products: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the factors [T] of the gradients whose sum PCGrad takes a step along.

    `products` [T, T] float are the gradients' dot products; `seed` [2] int32 orders the tasks.
    """
    tasks = products.shape[0]
    assert tasks is not None, "the number of tasks is known"
    size = tf.maximum(tf.linalg.diag_part(products), 1e-20)
    total = tf.zeros([tasks])
    for task in range(tasks):
        factors = tf.one_hot(task, tasks)
        others = [other for other in range(tasks) if other != task]
        draw = tf.random.stateless_uniform([len(others)], seed=seed + tf.constant([0, task + 1]))
        order = tf.gather(tf.constant(others, tf.int32), tf.argsort(draw))
        for place in range(len(others)):
            other = order[place]
            along = tf.linalg.tensordot(factors, products[other], 1)
            change = tf.minimum(along, 0.0) / size[other]
            factors -= change * tf.one_hot(other, tasks)
        total += factors
    return tf.stop_gradient(total)


def _norms(
    losses: Losses, tape: tf.GradientTape, shared: Sequence[tf.Variable]
) -> dict[str, tf.Tensor]:
    """Norm of each loss's gradient in `shared`; 0 where it does not depend on it."""
    norms = {}
    for task, loss in losses.items():
        found = [one for one in tape.gradient(loss, shared) if one is not None]
        norms[task] = tf.linalg.global_norm(found) if found else tf.zeros([])
    return norms


def _sum(losses: Losses, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return tf.add_n([weights[task] * loss for task, loss in losses.items()])


def _products(gradients: Sequence[Sequence[Any]]) -> tf.Tensor:
    """Dot products [T, T] of T lists of gradients, None where a variable is not used."""
    tasks = len(gradients)
    cells: dict[tuple[int, int], tf.Tensor] = {}
    for one in range(tasks):
        for other in range(one + 1):
            pairs = zip(gradients[one], gradients[other], strict=True)
            cells[one, other] = tf.add_n(
                [tf.zeros([])]
                + [_product(a, b) for a, b in pairs if a is not None and b is not None]
            )
    return tf.stack(
        [
            tf.stack([cells[max(one, other), min(one, other)] for other in range(tasks)])
            for one in range(tasks)
        ]
    )


def _product(one: Any, other: Any) -> tf.Tensor:
    """Dot product of two gradients of a variable; of a table's, only the rows in both count."""
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        rows, place = tf.unique(tf.concat([one.indices, other.indices], axis=0))
        split, count = tf.size(one.indices), tf.size(rows)
        mine = tf.math.unsorted_segment_sum(one.values, place[:split], count)
        theirs = tf.math.unsorted_segment_sum(other.values, place[split:], count)
        return tf.reduce_sum(mine * theirs)
    return tf.reduce_sum(tf.convert_to_tensor(one) * tf.convert_to_tensor(other))


def _scaled(gradient: Any, factor: float) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor
