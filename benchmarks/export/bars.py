"""What is measured beside what is asked: alternating timings, bars, and where they are written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.retrieval.machine import machine
from benchmarks.serving.report import markdown


@dataclass(frozen=True)
class Bar:
    """A measured value, and what it may be at the most (or, for some, must be at the least)."""

    what: str
    value: float
    bar: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value keeps to the bar."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def alternating(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 3
) -> dict[str, np.ndarray]:
    """Time the calls in turn, so that a slow moment of the machine falls on all of them.

    Returns, by name, [rounds] milliseconds.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-warm_up, rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= 0:
                found[name].append((time.perf_counter() - began) * 1e3)
    return {name: np.array(times) for name, times in found.items()}


def usual(times: np.ndarray) -> float:
    """Return what a call takes when little else runs: the end of the fastest fifth, in ms."""
    return float(np.quantile(times, 0.2))


def ratio(times: Mapping[str, np.ndarray], over: str, under: str) -> float:
    """Return how many times as long one call usually takes as another."""
    return usual(times[over]) / usual(times[under])


def times_table(times: Mapping[str, np.ndarray]) -> str:
    """Return what each call takes as a Markdown table."""
    rows = [[name, usual(values), float(np.median(values))] for name, values in times.items()]
    return markdown(["call", "ms, fastest fifth", "ms, median"], rows)


def report(
    name: str, bars: Sequence[Bar], *, out: Path, tables: Sequence[str] = (), **details: Any
) -> int:
    """Print the bars, write them as JSON and Markdown into `out`; 1 where one is not met."""
    rows = [
        [
            bar.what,
            bar.value,
            f"{'>=' if bar.at_least else '<='} {bar.bar:g}",
            "yes" if bar.met else "NO",
        ]
        for bar in bars
    ]
    text = "\n".join(
        [f"# {name}", "", *tables, markdown(["bar", "measured", "asked", "met"], rows)]
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    content = {"machine": machine(), "bars": [{**asdict(b), "met": b.met} for b in bars], **details}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1, default=float) + "\n")
    print(text)
    return int(not all(bar.met for bar in bars))
