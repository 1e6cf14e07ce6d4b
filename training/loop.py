"""The training loop of both stages: early stopping, checkpoints, resuming, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from features.backend import tf
from interactions.errors import UserError
from training.config import ScheduleConfig

Batch = Mapping[str, Any]


class TrainingError(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


@dataclass
class Progression:
    """Where a training run stands; kept beside its checkpoints, so that a stopped run resumes."""

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What a training run is made of."""

    name: str
    """Shown with the progress, e.g. `retrieval`."""
    weights: Mapping[str, Any]
    """What a checkpoint holds: models and the optimiser, by name."""
    batches: Callable[[int], Iterable[Batch]]
    """The batches of one epoch, by its number: the same ones each time it is asked."""
    steps_per_epoch: int
    step: Callable[[Batch, tf.Tensor], Mapping[str, tf.Tensor]]
    """One update; takes a seed [2] int32 that no other step has, and returns its losses."""
    validate: Callable[[], float] | None
    """A metric to be as high as possible; None trains for a given number of steps."""


def train(
    plan: Plan,
    *,
    config: ScheduleConfig,
    folder: Path,
    seed: int,
    steps: int | None = None,
    console: Console | None = None,
) -> Progression:
    """Train until validation no longer improves, or for exactly `steps` steps.

    Ends with the best weights restored (the last ones, without validation). A run that was stopped
    goes on from the epoch it had finished; one that had ended is only restored.

    Raises:
        TrainingError: a loss is not a finite number; names the step and what was kept.
        UserError: a checkpoint in `folder` cannot be read.
    """
    console = console or Console(quiet=True)
    folder.mkdir(parents=True, exist_ok=True)
    # two, so that the one that the record names stays until the record names the next
    latest = _Keeper(folder / "latest", plan.weights, keep=2)
    best = _Keeper(folder / "best", plan.weights)
    state = _resume(folder, latest)
    writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
    while not state.done:
        started = time.perf_counter()
        losses = _epoch(plan, state, seed=seed, steps=steps, console=console, folder=folder)
        state.epoch += 1
        if plan.validate is not None:
            losses["validation"] = plan.validate()
            _check_finite({"validation": losses["validation"]}, state.step, folder)
            if losses["validation"] > state.best:
                state.best, state.best_step, state.waited = losses["validation"], state.step, 0
                best.save(state.step)
            else:
                state.waited += 1
        state.seconds += time.perf_counter() - started
        state.history.append({"step": float(state.step), **losses})
        state.done = _is_done(state, config=config, steps=steps)
        latest.save(state.step)
        _write_json(folder / "progression.json", asdict(state))
        _log(writer, state, console, plan.name)
    if plan.validate is not None:
        best.restore()
    return state


def _epoch(
    plan: Plan, state: Progression, *, seed: int, steps: int | None, console: Console, folder: Path
) -> dict[str, float]:
    """Go once through the batches; return the mean of each loss."""
    totals: dict[str, tf.Tensor] = {}
    count = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            f"{plan.name}, epoch {state.epoch + 1}", total=plan.steps_per_epoch
        )
        for batch in plan.batches(state.epoch):
            losses = plan.step(batch, tf.constant([seed, state.step], tf.int32))
            totals = {name: totals.get(name, 0.0) + loss for name, loss in losses.items()}
            state.step += 1
            count += 1
            if count % 20 == 0:
                _check_finite(totals, state.step, folder)
            progress.advance(task)
            if steps is not None and state.step >= steps:
                break
    _check_finite(totals, state.step, folder)
    return {name: float(total) / count for name, total in totals.items()}


def _check_finite(totals: Mapping[str, tf.Tensor | float], step: int, folder: Path) -> None:
    for name, total in totals.items():
        if not math.isfinite(float(total)):
            raise TrainingError(
                f"{name} is not a finite number at step {step}: lower the learning rate, or look "
                f"for extreme labels; the last good checkpoint is in {folder / 'latest'}"
            )


def _is_done(state: Progression, *, config: ScheduleConfig, steps: int | None) -> bool:
    if steps is not None:
        return state.step >= steps
    return (
        state.waited >= config.patience
        or state.epoch >= config.max_epochs
        or state.seconds >= 60 * config.max_minutes
    )


def restore(folder: Path, **weights: Any) -> None:
    """Restore the best weights that `train` left in `folder`, by the names they were saved under.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    best = folder / "best"
    _Keeper(best if best.exists() else folder / "latest", weights).restore()


class _Keeper:
    """Saves and restores the latest generations of weights in a folder, each named by its step."""

    def __init__(self, folder: Path, weights: Mapping[str, Any], *, keep: int = 1) -> None:
        self._folder = folder
        self._checkpoint = tf.train.Checkpoint(**weights)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=keep)

    def save(self, step: int) -> None:
        self._manager.save(checkpoint_number=step)

    def restore(self, step: int | None = None) -> None:
        """Restore the weights of `step`, or the latest ones."""
        path = self._manager.latest_checkpoint
        if step is not None:
            path = str(self._folder / f"ckpt-{step}")
        if path is None or not Path(f"{path}.index").exists():
            raise UserError(
                f"no checkpoint in {self._folder}; remove {self._folder.parent} to train it anew"
            )
        try:
            found = self._checkpoint.restore(path)
            found.assert_existing_objects_matched().expect_partial()
        # TensorFlow tells of a file that ends too early by an IndexError
        except (
            tf.errors.OpError,
            IndexError,
            ValueError,
            RuntimeError,
            AssertionError,
        ) as error:
            raise UserError(
                f"the checkpoint {path} cannot be read ({str(error).splitlines()[0]}); "
                f"remove {self._folder.parent} to train it anew"
            ) from error


def _resume(folder: Path, latest: _Keeper) -> Progression:
    path = folder / "progression.json"
    if not path.exists():
        return Progression()
    try:
        state = Progression(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read; remove {folder} to train it anew") from error
    latest.restore(state.step)
    return state


def _log(writer: tf.summary.SummaryWriter, state: Progression, console: Console, name: str) -> None:
    last = state.history[-1]
    with writer.as_default():
        for key, value in last.items():
            tf.summary.scalar(f"{name}/{key}", value, step=state.step)
    writer.flush()
    numbers = ", ".join(f"{key} {value:.4f}" for key, value in last.items() if key != "step")
    console.print(
        f"  {name} epoch {state.epoch} ({state.seconds:.0f} s): {numbers}", highlight=False
    )


def _write_json(path: Path, content: object) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(path)
