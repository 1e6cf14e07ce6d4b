"""Time and memory of each stage of a run."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class StageCost:
    """What a stage took."""

    stage: str
    seconds: float
    peak_mib: float
    """Highest resident memory of the process during the stage, in MiB."""


class Resources:
    """Measures stages, tells people which one runs, and keeps the costs."""

    def __init__(self, console: Console) -> None:
        self.costs: list[StageCost] = []
        self._console = console

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time and the peak memory of what runs inside."""
        self._console.print(f"[bold]{name}[/bold]")
        _forget_peak()
        started = time.perf_counter()
        yield
        self.costs.append(StageCost(name, time.perf_counter() - started, _peak_mib()))

    def table(self) -> Table:
        """Return the costs for people."""
        table = Table(title="Time and peak memory", title_justify="left")
        for column in ("stage", "seconds", "peak MiB"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for cost in self.costs:
            table.add_row(cost.stage, f"{cost.seconds:.1f}", f"{cost.peak_mib:,.0f}")
        total = sum(cost.seconds for cost in self.costs)
        peak = max((cost.peak_mib for cost in self.costs), default=0.0)
        table.add_row("all", f"{total:.1f}", f"{peak:,.0f}", style="bold")
        return table

    def write(self, path: Path) -> None:
        """Keep the costs as JSON."""
        path.write_text(json.dumps([asdict(cost) for cost in self.costs], indent=1) + "\n")


def _forget_peak() -> None:
    """Reset the peak of the resident memory, where Linux lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
