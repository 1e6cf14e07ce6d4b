"""The seam between a loaded model and what lies around its runs: admission, batching, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Runner(Protocol):
    """Runs one signature of one model version, always with the same outputs, from any thread."""

    def run(
        self, inputs: Mapping[str, np.ndarray], *, deadline: float | None = None
    ) -> Mapping[str, np.ndarray]:
        """Return arrays by output name; `inputs` are by input name, strings as object arrays.

        `deadline` is in seconds of `time.monotonic`. Raises ServingError.
        """
        ...

    def close(self) -> None:
        """Free what the runner holds; no run is under way."""
        ...


@dataclass(frozen=True)
class RunnerKey:
    """What a runner runs."""

    model: str
    version: int
    signature: str
    outputs: tuple[str, ...]
    """Sorted names; those of the output filter, or all."""
    inputs: tuple[str, ...]
    """Sorted names."""


class WrapRunner(Protocol):
    """Makes the runner that requests use out of the one that runs the graph (batching, queues)."""

    def __call__(self, runner: Runner, key: RunnerKey) -> Runner:
        """Return `runner` itself, or one around it; closing that one closes `runner`."""
        ...


def unwrapped(runner: Runner, key: RunnerKey) -> Runner:
    """Return `runner` as it is."""
    del key
    return runner
