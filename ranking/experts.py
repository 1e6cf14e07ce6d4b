"""Who computes what for which task: a shared bottom, a mixture of experts, progressive layers, or
none of these; and the towers of single tasks above them.

Modules of a task are named by its place: a task may be called what no module may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from features.backend import tf
from ranking.config import RankingConfig
from ranking.sides import Layers, Sides, SidesDense

_SALT = 40
"""Dropout salts of experts begin here; each expert takes as many as it has layers."""

_TOWER_SALT = 1_000
"""Those of towers begin here, beyond all experts."""

_SHARED = "shared experts"
"""Stands beside the tasks' names."""


class Experts(Protocol):
    """Features in, features for each task out."""

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> dict[str, Sides]:
        """Return what each task's tower reads, by task: [B, C, width], and a query's side [B, U]
        only where features are handed on as they came; `seed` turns dropout on."""
        ...

    @property
    def last_shared(self) -> list[tf.Variable]:
        """The weights of the last layer that several tasks use; none where there is no layer."""
        ...


def experts_of(config: RankingConfig, tasks: Sequence[str]) -> Experts:
    """Make the experts that `config` asks for."""
    widths, rate = config.hidden_dims, config.dropout
    if config.experts == "none":
        return NoExperts(tasks)
    if config.experts == "shared_bottom":
        return SharedBottom(widths, tasks=tasks, rate=rate)
    if config.experts == "mmoe":
        return MixtureOfExperts(widths, tasks=tasks, experts=config.expert_count, rate=rate)
    return ProgressiveExtraction(
        widths, tasks=tasks, shared=config.expert_count, own=config.own_experts, rate=rate
    )


class NoExperts(tf.Module):
    """Hands the features on: what tasks share ends with them."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(name="no_experts")
        self._tasks = tuple(tasks)

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> dict[str, Sides]:
        """Return `sides` for all."""
        del seed
        return dict.fromkeys(self._tasks, sides)

    @property
    def last_shared(self) -> list[tf.Variable]:
        """None."""
        return []


class SharedBottom(tf.Module):
    """The same layers for all tasks (Caruana 1997)."""

    def __init__(self, widths: Sequence[int], *, tasks: Sequence[str], rate: float) -> None:
        super().__init__(name="shared_bottom")
        self._tasks = tuple(tasks)
        self._layers = Layers(widths, rate=rate, salt=_SALT, name="body")

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> dict[str, Sides]:
        """Return one hidden vector for all."""
        return dict.fromkeys(self._tasks, Sides(None, self._layers(sides, seed)))

    @property
    def last_shared(self) -> list[tf.Variable]:
        """The last layer's weights."""
        return self._layers.last_kernels


class MixtureOfExperts(tf.Module):
    """Shared experts that each task mixes in its own way (MMoE, Ma et al. 2018, section 4.2)."""

    def __init__(
        self, widths: Sequence[int], *, tasks: Sequence[str], experts: int, rate: float
    ) -> None:
        super().__init__(name="mixture")
        self._experts = [
            Layers(widths, rate=rate, salt=_SALT + n * len(widths), name=f"expert_{n}")
            for n in range(experts)
        ]
        self._gates = {
            task: _gate(experts, name=f"gate_{place}") for place, task in enumerate(tasks)
        }

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> dict[str, Sides]:
        """Mix the experts for each task."""
        hidden = [expert(sides, seed) for expert in self._experts]
        return {task: _mix(hidden, gate(sides)) for task, gate in self._gates.items()}

    @property
    def last_shared(self) -> list[tf.Variable]:
        """The last layers' weights, of all experts."""
        return [kernel for expert in self._experts for kernel in expert.last_kernels]


class ProgressiveExtraction(tf.Module):
    """Experts of each task beside shared ones, level by level (PLE, Tang et al. 2020, section 4.2).

    A level has one layer: the n-th of `widths`. A task's gate mixes its own experts and the shared
    ones; the shared gate, on every level but the last, mixes all.
    """

    def __init__(
        self, widths: Sequence[int], *, tasks: Sequence[str], shared: int, own: int, rate: float
    ) -> None:
        super().__init__(name="progressive")
        self._tasks = tuple(tasks)
        groups = {_SHARED: shared, **dict.fromkeys(self._tasks, own)}
        salts = iter(range(_SALT, _SALT + len(widths) * sum(groups.values())))
        self._levels = [
            {
                group: [
                    Layers([width], rate=rate, salt=next(salts), name=f"expert_{place}_{level}_{n}")
                    for n in range(count)
                ]
                for place, (group, count) in enumerate(groups.items())
            }
            for level, width in enumerate(widths)
        ]
        self._gates = [
            {
                task: _gate(own + shared, name=f"gate_{place}_{level}")
                for place, task in enumerate(self._tasks)
            }
            for level in range(len(widths))
        ]
        self._shared_gates = [
            _gate(sum(groups.values()), name=f"gate_shared_{level}")
            for level in range(len(widths) - 1)
        ]

    def __call__(self, sides: Sides, seed: tf.Tensor | None) -> dict[str, Sides]:
        """Extract level by level."""
        inputs = dict.fromkeys((_SHARED, *self._tasks), sides)
        for level, groups in enumerate(self._levels):
            hidden = {
                group: [expert(inputs[group], seed) for expert in experts]
                for group, experts in groups.items()
            }
            mixed = {
                task: _mix(hidden[task] + hidden[_SHARED], gate(inputs[task]))
                for task, gate in self._gates[level].items()
            }
            if level < len(self._shared_gates):
                everyone = [vector for group in hidden.values() for vector in group]
                mixed[_SHARED] = _mix(everyone, self._shared_gates[level](inputs[_SHARED]))
            inputs = mixed
        return inputs

    @property
    def last_shared(self) -> list[tf.Variable]:
        """The shared experts' weights on the last level."""
        return [kernel for expert in self._levels[-1][_SHARED] for kernel in expert.last_kernels]


class Towers(tf.Module):
    """Layers of each task's own, above what tasks share (as in Ma et al. 2018, figure 1)."""

    def __init__(self, widths: Sequence[int], *, tasks: Sequence[str], rate: float) -> None:
        super().__init__(name="towers")
        self._layers = {
            task: Layers(
                widths, rate=rate, salt=_TOWER_SALT + place * len(widths), name=f"tower_{place}"
            )
            for place, task in enumerate(tasks)
        }

    def __call__(
        self, features: Mapping[str, Sides], seed: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        """Return a hidden vector for each task, [B, C, width]; `seed` turns dropout on."""
        return {task: self._layers[task](own, seed) for task, own in features.items()}


def _gate(experts: int, *, name: str) -> SidesDense:
    return SidesDense(experts, activation="softmax", initializer="zeros", name=name)


def _mix(hidden: list[tf.Tensor], shares: tf.Tensor) -> Sides:
    """Sum [B, C, width] vectors by their shares [B, C, experts]."""
    parts = [vector * shares[:, :, n, tf.newaxis] for n, vector in enumerate(hidden)]
    return Sides(None, tf.add_n(parts))
