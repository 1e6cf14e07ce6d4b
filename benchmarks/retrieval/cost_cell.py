"""One cell of `cost`: generate a log of a given size, or train on it and measure.

python -m benchmarks.retrieval.cost_cell generate|train FOLDER ITEMS EVENTS STEPS
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.retrieval.ours import Learning
from benchmarks.retrieval.problem import Problem
from interactions import storage
from interactions.config import DataConfig
from interactions.log import NEVER, EventLog
from interactions.split import RETRIEVAL, Windows
from tandem.config import TandemConfig
from tandem.data import Data

PER_USER = 50
"""Events of each user."""
SHORT = 20
"""Steps of the training whose time is taken off the long one's."""
_BLOCK = 1_000_000
_SPAN = 365 * 24 * 3600 * 1_000_000
"""The log's length in microseconds."""


@dataclass(frozen=True)
class Size:
    """How large the generated data is."""

    items: int
    events: int


@dataclass(frozen=True)
class Cost:
    """What training on it cost."""

    items: int
    events: int
    model_mib: float
    """Weights and their optimiser's state."""
    own_mib: float
    """Peak of anonymous memory."""
    idle_mib: float
    """Anonymous memory before training: libraries and the catalogue's ids."""
    resident_mib: float
    """Peak of all resident memory; it counts pages of the mapped log too."""
    short_seconds: float
    """The first training, of `SHORT` steps, with encoding and whatever else comes before a step."""
    seconds_per_event: float
    """Of the further steps of a longer training."""
    cpu_seconds_per_event: float
    """The same of all cores together; on a busy machine the steadier figure."""


def generate(size: Size, folder: Path, *, seed: int) -> None:
    """Store a log of `size` in `folder`: users of `PER_USER` events, few items very popular.

    Arrays are written in blocks and never held whole.
    """
    users = max(size.events // PER_USER, 1)
    events = users * PER_USER
    raw = folder / "raw"
    raw.mkdir(parents=True)
    types = {
        "user": np.int32, "item": np.int32, "time": np.int64,
        "chosen": np.bool_, "exposure": np.bool_, "window": np.int8,
    }  # fmt: skip
    arrays = {
        name: np.lib.format.open_memmap(raw / f"{name}.npy", mode="w+", dtype=kind, shape=(events,))
        for name, kind in types.items()
    }
    rng = np.random.default_rng(seed)
    for start in range(0, events, _BLOCK):
        stop = min(start + _BLOCK, events)  # a block holds whole users
        part = slice(start, stop)
        arrays["user"][part] = np.arange(start, stop) // PER_USER
        # cubed, so that a tenth of the items has about half of the events
        arrays["item"][part] = (size.items * rng.random(stop - start) ** 3).astype(np.int32)
        moments = np.sort(rng.integers(0, _SPAN, ((stop - start) // PER_USER, PER_USER)))
        arrays["time"][part] = moments.ravel()
        arrays["chosen"][part] = arrays["exposure"][part] = True
        arrays["window"][part] = RETRIEVAL
    log = EventLog(
        user_ids=_ids("user", users),
        item_ids=_ids("item", size.items),
        **{name: arrays[name] for name in types if name != "window"},
        labels={},
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=True,
    )
    windows = Windows(log, "time", arrays["window"], np.full(4, NEVER))
    storage.save(log, folder / "log", windows=windows)
    shutil.rmtree(raw)


def train(size: Size, folder: Path, *, steps: int) -> Cost:
    """Train the default retriever for `SHORT` and for `steps` further steps on a stored log."""
    stored = storage.load(folder / "log")
    assert stored.windows is not None, "a generated log is stored with its windows"
    config = TandemConfig(data=DataConfig(events="generated"))
    problem = Problem(Data(stored.log, stored.windows, config))
    idle = _anonymous_mib()
    watch = _Watch()
    watch.start()
    # the first training is the cold one; of the other two, all but the further steps is the same
    cold, short, long = (
        _training(problem, folder / name, steps=count)
        for name, count in (("cold", SHORT), ("short", SHORT), ("long", SHORT + steps))
    )
    watch.stop()
    events = steps * config.retrieval.batch_events
    return Cost(
        items=size.items,
        events=len(stored.log),
        model_mib=cold.weights * 4 * 3 / 2**20,  # a weight and Adam's two moments, float32
        own_mib=watch.peak_mib,
        idle_mib=idle,
        resident_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        short_seconds=cold.seconds,
        seconds_per_event=(long.seconds - short.seconds) / events,
        cpu_seconds_per_event=(long.cpu_seconds - short.cpu_seconds) / events,
    )


@dataclass(frozen=True)
class _Training:
    """What one training took, encoding included."""

    seconds: float
    cpu_seconds: float
    """Of all the process's threads: what other processes do changes it little."""
    weights: int
    """Numbers that are trained."""


def _training(problem: Problem, folder: Path, *, steps: int) -> _Training:
    started, cpu_started = time.perf_counter(), time.process_time()
    learning = Learning(problem, problem.rows, folder=folder)
    retriever, _ = learning.fit(problem.data.config.retrieval, seed=0, steps=steps)
    weights = sum(one.shape.num_elements() for one in retriever.trainable_variables)
    return _Training(time.perf_counter() - started, time.process_time() - cpu_started, weights)


class _Watch(threading.Thread):
    """Looks at the process's anonymous memory ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            self.peak_mib = max(self.peak_mib, _anonymous_mib())

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def _ids(name: str, count: int) -> np.ndarray:
    return np.array([f"{name}-{number}" for number in range(count)], object)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("generate", "train"))
    parser.add_argument("folder", type=Path)
    for name in ("items", "events", "steps"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    size = Size(arguments.items, arguments.events)
    if arguments.step == "generate":
        generate(size, arguments.folder, seed=0)
    else:
        cost = train(size, arguments.folder, steps=arguments.steps)
        (arguments.folder / "cost.json").write_text(json.dumps(asdict(cost)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
