"""What a training run shows: TensorBoard, a progress bar, and a line per round."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from features.backend import tf

_EVERY = 20
"""Steps between two entries, so that showing costs next to nothing."""


class Journal:
    """Writes what a run tells of itself into `folder/tensorboard` and onto a console."""

    def __init__(self, name: str, *, folder: Path, console: Console) -> None:
        self._name, self._console = name, console
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    @contextmanager
    def round(self, most_steps: int, most_seconds: float) -> Iterator[RoundJournal]:
        """Show a bar while a round goes on; the limits are those of the whole training."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        # where no bar can be drawn, as in a file, it would leave an empty line for each round
        drawn = self._console.is_interactive or self._console.is_jupyter
        with Progress(*columns, console=self._console, transient=True, disable=not drawn) as bar:
            yield RoundJournal(self, bar, most_steps=most_steps, most_seconds=most_seconds)

    def tell(
        self, numbers: Mapping[str, float], *, step: int, epochs: float, seconds: float
    ) -> None:
        """Tell how a round ended, `epochs` epochs and `seconds` seconds into the training."""
        self.write({f"round/{name}": value for name, value in numbers.items()}, step=step)
        self._writer.flush()
        # what has a path, as a task's weight, is for TensorBoard: a line has room for the losses
        shown = ", ".join(
            f"{name} {value:.4f}" for name, value in numbers.items() if "/" not in name
        )
        self._console.print(
            f"  {self._name} epoch {round(epochs, 2):g} ({seconds:.0f} s): {shown}",
            highlight=False,
        )

    def write(self, numbers: Mapping[str, float], *, step: int) -> None:
        """Write numbers to TensorBoard."""
        with self._writer.as_default():
            for name, value in numbers.items():
                tf.summary.scalar(f"{self._name}/{name}", value, step=step)

    @property
    def name(self) -> str:
        """Of the run."""
        return self._name


class RoundJournal:
    """The progress of one round."""

    def __init__(
        self, journal: Journal, bar: Progress, *, most_steps: int, most_seconds: float
    ) -> None:
        self._journal, self._bar = journal, bar
        self._most_steps, self._most_seconds = most_steps, most_seconds
        self._task = bar.add_task(journal.name, total=1.0, left="")
        self._since, self._steps = time.perf_counter(), 0

    def advance(
        self,
        losses: Mapping[str, float],
        optimizer: Mapping[str, float],
        *,
        step: int,
        epoch: int,
        seconds: float,
    ) -> None:
        """Tell of the step just done, `seconds` seconds into the training."""
        self._steps += 1
        if step % _EVERY:
            return
        now = time.perf_counter()
        rate = self._steps / max(now - self._since, 1e-9)
        self._since, self._steps = now, 0
        self._journal.write({**losses, **optimizer, "steps_per_second": rate}, step=step)
        left = min((self._most_steps - step) / rate, self._most_seconds - seconds)
        loss = next(iter(losses.values()))
        self._bar.update(
            self._task,
            description=f"{self._journal.name}, epoch {epoch + 1}: loss {loss:.4f}, "
            f"{rate:.1f} steps/s",
            completed=max(step / self._most_steps, seconds / self._most_seconds),
            left=f"at most {_duration(left)} left",
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
