"""What training costs as the log and the catalogue grow.

Generated events go straight into a stored log; each cell is generated and trained in processes of
its own. Memory is the peak of what the process holds for itself (anonymous memory) beside the peak
of all that is resident, which counts pages of the mapped log as well. Seconds per event are those
of the steps between a short and a long training, so that what is done once is not in them.

    python -m benchmarks.retrieval.cost
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from benchmarks.arguments import results_folder
from benchmarks.retrieval.cost_cell import SHORT, Cost, Size
from benchmarks.retrieval.datasets import ROOT
from benchmarks.retrieval.machine import machine, machine_lines
from benchmarks.tables import table
from evaluation.plots import save_figure

ITEMS = (10_000, 100_000, 1_000_000)
EVENTS = (1_000_000, 10_000_000, 50_000_000)
STEPS = 200
AXES = ("items", "events")


def sizes(items: Sequence[int], events: Sequence[int]) -> list[Size]:
    """Return growing catalogues at the middle log, and growing logs at the middle catalogue.

    With too few events most items of a large catalogue would not be in it at all.
    """
    catalogue = [Size(one, _middle(events)) for one in items]
    log = [Size(_middle(items), one) for one in events]
    return [*catalogue, *(size for size in log if size not in catalogue)]


def measure(size: Size, *, steps: int) -> Cost:
    """Generate and train one cell in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for step in ("generate", "train"):
            command = [
                *(sys.executable, "-m", "benchmarks.retrieval.cost_cell", step, folder),
                *(str(size.items), str(size.events), str(steps)),
            ]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stderr}")
        return Cost(**json.loads((Path(folder) / "cost.json").read_text(encoding="utf-8")))


def markdown(costs: Sequence[Cost], *, steps: int) -> str:
    """Return the figures as a Markdown table."""
    header = [
        "items", "events", "model, MiB", "own memory, MiB", "of it before training",
        "resident, MiB", f"first {SHORT} steps, s", "microseconds per event", "CPU microseconds",
    ]  # fmt: skip
    rows = [
        [
            f"{cost.items:,}",
            f"{cost.events:,}",
            f"{cost.model_mib:,.0f}",
            f"{cost.own_mib:,.0f}",
            f"{cost.idle_mib:,.0f}",
            f"{cost.resident_mib:,.0f}",
            f"{cost.short_seconds:,.1f}",
            f"{1e6 * cost.seconds_per_event:,.0f}",
            f"{1e6 * cost.cpu_seconds_per_event:,.0f}",
        ]
        for cost in costs
    ]
    about = (
        f"Defaults of the retriever with sampled negatives, {steps} timed steps in each cell. Own "
        "memory is the peak of anonymous memory; before training it holds the libraries and the "
        "catalogue's ids."
    )
    title = "# What training costs as the log and the catalogue grow"
    return "\n\n".join([title, "\n".join(machine_lines()), about, table(header, rows)])


def plot(costs: Sequence[Cost], path: Path) -> None:
    """Draw own memory and time per event against the size of the catalogue and of the log.

    Takes the cells of `sizes`.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    items, events = (_most_common([getattr(one, axis) for one in costs]) for axis in AXES)
    lines = (
        ("items", [one for one in costs if one.events == events], f"{events:,} events"),
        ("events", [one for one in costs if one.items == items], f"{items:,} items"),
    )
    for column, (axis, unsorted, held) in enumerate(lines):
        chosen = sorted(unsorted, key=attrgetter(axis))
        x = [getattr(cost, axis) for cost in chosen]
        memory, speed = panels[0][column], panels[1][column]
        memory.plot(x, [cost.own_mib for cost in chosen], marker="o", label="own memory")
        memory.plot(x, [cost.model_mib for cost in chosen], marker="o", label="model alone")
        speed.plot(x, [1e6 * cost.cpu_seconds_per_event for cost in chosen], marker="o")
        memory.set(title=f"at {held}", xscale="log", ylabel="MiB")
        speed.set(xscale="log", xlabel=axis, ylabel="CPU microseconds per event")
        memory.legend()
    panels[0][0].set_ylim(0, 1.1 * max(cost.own_mib for cost in costs))
    panels[1][0].set_ylim(0, 1.1e6 * max(cost.cpu_seconds_per_event for cost in costs))
    save_figure(figure, path)


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def _most_common(values: Sequence[int]) -> int:
    return max(sorted(values, reverse=True), key=values.count)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--events", type=int, nargs="+", default=EVENTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/retrieval-cost")
    arguments = parser.parse_args()
    console = Console()
    cells = sizes(arguments.items, arguments.events)
    costs = [
        measure(size, steps=arguments.steps)
        for size in track(cells, description="cells", console=console)
    ]
    text = markdown(costs, steps=arguments.steps)
    (arguments.out / "cost.md").write_text(text + "\n", encoding="utf-8")
    content = {"machine": machine(), "cells": [asdict(cost) for cost in costs]}
    (arguments.out / "cost.json").write_text(json.dumps(content, indent=1) + "\n")
    plot(costs, arguments.out / "cost.png")
    console.print(Markdown(text))
    console.print(f"{arguments.out / 'cost.md'}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
