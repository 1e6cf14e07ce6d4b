"""The training loop of both stages: rounds, early stopping, a budget of time, resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from features.backend import tf
from interactions.errors import UserError
from training.average import WeightAverage
from training.config import ScheduleConfig
from training.fingerprint import hold_to
from training.journal import Journal
from training.optimizer import LazyAdamW
from training.storage import Keeper, write_json

Batch = Mapping[str, Any]


class TrainingError(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


@dataclass
class Progression:
    """Where a training run stands; kept beside its checkpoints, so that a stopped run resumes."""

    epoch: int = 0
    """Whole epochs done."""
    epoch_steps: int = 0
    """Steps done of the epoch after them."""
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    waited: int = 0
    """Validations since the best one."""
    seconds: float = 0.0
    """Time spent, validation included, in what was kept."""
    done: bool = False
    out_of_time: bool = False
    """Whether it ended because its time was over, while it might have become better."""
    history: list[dict[str, float]] = field(default_factory=list)
    """By round: its last step, the mean of each loss, the validation metric."""


@dataclass(frozen=True)
class Plan:
    """What a training run is made of."""

    name: str
    """Shown with the progress, e.g. `retrieval`."""
    weights: Mapping[str, Any]
    """What is trained, by name: what `restore` finds."""
    batches: Callable[[int], Iterable[Batch]]
    """The batches of one epoch, by its number: the same ones each time it is asked."""
    steps_per_epoch: int
    """How many they are, at most."""
    step: Callable[[Batch, tf.Tensor], Mapping[str, tf.Tensor]]
    """One update; takes a seed [2] int32 that no other step has, and returns its losses."""
    validate: Callable[[], float] | None
    """A metric to be as high as possible; None trains for a given number of steps."""
    optimizer: LazyAdamW
    """Checkpointed; its learning rate and gradient norm are logged, and the norm is checked."""
    average: WeightAverage | None = None
    """Stands in for the trained weights in validation and in what is kept."""


def train(
    plan: Plan,
    *,
    config: ScheduleConfig,
    folder: Path,
    seed: int,
    steps: int | None = None,
    max_minutes: float | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Progression:
    """Train until validation no longer improves or time is out, or for exactly `steps` steps.

    Ends with the best weights restored (the last ones, without validation), their averages where
    the plan has some. A run that was stopped goes on from the round it had finished, and repeats
    exactly what an uninterrupted one does; one that had ended is only restored. `max_minutes`, of
    the training and its resumptions together, holds where `steps` is None: when they have passed,
    the weights are validated once more. `fingerprint` is flat and of JSON values, see
    `training.fingerprint.flatten`.

    Raises:
        TrainingError: a loss or a gradient is not a finite number; names the step and what was
            kept.
        UserError: a checkpoint in `folder` cannot be read, or was made with another fingerprint;
            an epoch has no batches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fingerprint is not None:
        started = (folder / "progression.json").exists()
        hold_to(fingerprint, folder=folder, started=started)
    limits = _Limits(config, plan.steps_per_epoch, steps=steps, max_minutes=max_minutes)
    run = _Run(plan, limits, folder=folder, seed=seed, console=console or Console(quiet=True))
    return run.finish()


def restore(folder: Path, **weights: Any) -> None:
    """Restore the best weights that `train` left in `folder`, by the names they were saved under.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    Keeper(folder / "best", weights).restore()


@dataclass(frozen=True)
class _Limits:
    """When a round and a training end."""

    config: ScheduleConfig
    steps_per_epoch: int
    steps: int | None
    max_minutes: float | None

    @property
    def most_steps(self) -> int:
        if self.steps is not None:
            return self.steps
        return self.config.max_epochs * self.steps_per_epoch

    @property
    def most_seconds(self) -> float:
        if self.steps is not None or self.max_minutes is None:
            return math.inf
        return 60 * self.max_minutes

    def ends_round(self, state: Progression, *, seconds: float) -> bool:
        """Tell whether to validate; a long epoch has rounds of the same length but for rounding."""
        rounds = -(-self.steps_per_epoch // self.config.validation_steps)
        number, before = (
            done * rounds // self.steps_per_epoch
            for done in (state.epoch_steps, state.epoch_steps - 1)
        )
        out = seconds >= self.most_seconds or state.step == self.steps
        # an epoch may have more steps than planned; what is over belongs to its last round
        return not state.epoch_steps or before < number < rounds or out

    def ends_training(self, state: Progression) -> bool:
        if self.steps is not None:
            return state.step >= self.steps
        return (
            state.waited >= self.config.patience
            or state.epoch >= self.config.max_epochs
            or state.seconds >= self.most_seconds
        )

    def cuts_short(self, state: Progression) -> bool:
        """Tell whether time is over for a training that nothing else would end."""
        out = state.seconds >= self.most_seconds and state.epoch < self.config.max_epochs
        return out and state.waited < self.config.patience


class _Run:
    """One training run: its place, its checkpoints and its journal."""

    def __init__(
        self, plan: Plan, limits: _Limits, *, folder: Path, seed: int, console: Console
    ) -> None:
        self._plan, self._limits, self._folder, self._seed = plan, limits, folder, seed
        state: dict[str, Any] = {"optimizer": plan.optimizer}
        if plan.average is not None:
            state["average"] = plan.average.state
        # two, so that the one that the record names stays until the record names the next
        self._latest = Keeper(folder / "latest", {**plan.weights, **state}, keep=2)
        self._best = Keeper(folder / "best", plan.weights)
        self._state = self._resume()
        self._journal = Journal(plan.name, folder=folder, console=console)
        self._since = time.perf_counter()

    def finish(self) -> Progression:
        """Go on to the end, and leave the best weights in place."""
        state = self._state
        self._decide()
        batches = self._batches()
        while not state.done:
            losses = self._round(batches)
            with self._average_in_place():
                self._judge(losses)
            state.seconds, self._since = self._seconds, time.perf_counter()
            state.history.append({"step": float(state.step), **losses})
            self._decide()
            if state.done and self._plan.validate is None:
                with self._average_in_place():
                    self._best.save(state.step)
            self._latest.save(state.step)
            write_json(self._folder / "progression.json", asdict(state))
            epochs = state.epoch + state.epoch_steps / self._plan.steps_per_epoch
            self._journal.tell(losses, step=state.step, epochs=epochs, seconds=state.seconds)
        self._best.restore()
        return state

    def _decide(self) -> None:
        self._state.done = self._limits.ends_training(self._state)
        self._state.out_of_time = self._limits.cuts_short(self._state)

    @property
    def _seconds(self) -> float:
        return self._state.seconds + time.perf_counter() - self._since

    def _resume(self) -> Progression:
        path = self._folder / "progression.json"
        if not path.exists():
            return Progression()
        try:
            state = Progression(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} cannot be read; remove {self._folder} to train it anew"
            ) from error
        self._latest.restore(state.step)
        return state

    def _batches(self) -> Iterator[Batch]:
        """Yield batches from where the run stands, epoch after epoch, and count them."""
        state = self._state
        while True:
            batches = islice(self._plan.batches(state.epoch), state.epoch_steps, None)
            batch = next(batches, None)
            if batch is None and not state.epoch_steps:
                raise UserError(
                    f"epoch {state.epoch + 1} of {self._plan.name} has no batch, so there is "
                    "nothing to learn from; check data.positive and split"
                )
            while batch is not None:
                # one ahead: an epoch may end before the planned number of steps
                following = next(batches, None)
                state.epoch_steps += 1
                if following is None:
                    state.epoch, state.epoch_steps = state.epoch + 1, 0
                yield batch
                batch = following

    def _round(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Train until it is time to validate; return the mean of each loss."""
        plan, state, limits = self._plan, self._state, self._limits
        totals: dict[str, float] = {}
        count = 0
        with self._journal.round(limits.most_steps, limits.most_seconds) as progress:
            for batch in batches:
                losses = plan.step(batch, tf.constant([self._seed, state.step], tf.int32))
                state.step += 1
                count += 1
                found = {name: float(loss) for name, loss in losses.items()}
                optimizer = self._optimizer_numbers()
                self._check_finite(found | optimizer)
                if plan.average is not None:
                    plan.average.update(state.step)
                totals = {name: totals.get(name, 0.0) + value for name, value in found.items()}
                progress.advance(
                    found, optimizer, step=state.step, epoch=state.epoch, seconds=self._seconds
                )
                if limits.ends_round(state, seconds=self._seconds):
                    break
        return {name: total / count for name, total in totals.items()}

    def _judge(self, losses: dict[str, float]) -> None:
        """Validate, and keep the weights that are in place if they are the best."""
        state = self._state
        if self._plan.validate is None:
            return
        losses["validation"] = self._plan.validate()
        self._check_finite({"validation": losses["validation"]})
        if losses["validation"] > state.best:
            state.best, state.best_step, state.waited = losses["validation"], state.step, 0
            self._best.save(state.step)
        else:
            state.waited += 1

    def _average_in_place(self) -> Any:
        average = self._plan.average
        return nullcontext() if average is None else average.in_place(self._state.step)

    def _optimizer_numbers(self) -> dict[str, float]:
        optimizer = self._plan.optimizer
        return {
            "gradient_norm": float(optimizer.gradient_norm),
            "learning_rate": float(optimizer.learning_rate),
        }

    def _check_finite(self, numbers: Mapping[str, float]) -> None:
        """Checked at each step: a later one would be told the wrong step, or be averaged."""
        for name, number in numbers.items():
            if not math.isfinite(number):
                kept = (
                    f"the last good checkpoint is in {self._folder / 'latest'}"
                    if self._state.history
                    else "there was no checkpoint yet"
                )
                raise TrainingError(
                    f"{name} is not a finite number at step {self._state.step}: lower the learning "
                    f"rate, or look for extreme labels; {kept}"
                )
