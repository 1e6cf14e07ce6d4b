"""How long a server takes to load a bundle, and how much memory, by its items and users.

As many users as items, generated, with hardly trained weights: what loading costs depends on sizes
alone. A million of both: at most 10 s and 3 GiB, from the start of the process to its first answer.

    python -m benchmarks.export.size FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, report
from benchmarks.serving.load import free_port
from benchmarks.serving.report import markdown, plot_curves
from benchmarks.serving.server_process import ServerProcess

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_MAKE = "benchmarks.serving.bundle"


@dataclass(frozen=True)
class Loaded:
    """A bundle, served."""

    size: int
    """Items, and users."""
    seconds: float
    """From the start of the process until its port answers."""
    processor: float
    """Seconds of processor time in that."""
    memory: float
    """MiB, resident."""
    disk: float
    """MiB of the recommender."""


def load(bundle: Path, *, size: int, scratch: Path) -> Loaded:
    """Serve a bundle once."""
    log = scratch / f"{size}.log"
    began = time.monotonic()
    with ServerProcess([str(bundle)], port=free_port(), log=log) as server:
        seconds = time.monotonic() - began
        processor, memory = server.cpu_seconds(), server.memory()
    files = (file for file in (bundle / "recommender").rglob("*") if file.is_file())
    disk = sum(file.stat().st_size for file in files) / 2**20
    return Loaded(size, seconds, processor, memory, disk)


def made(folder: Path, *, size: int, events_per_user: int) -> Path:
    """Return a bundle of `size` items and users, made where it is not there."""
    bundle = folder / str(size)
    if not (bundle / "manifest.json").exists():
        sizes = [f"--items={size}", f"--users={size}", f"--events-per-user={events_per_user}"]
        # in a process of its own, whose memory goes with it
        subprocess.run([sys.executable, "-m", _MAKE, str(bundle), *sizes], check=True)
    return bundle


def main() -> int:
    """Make the bundles, load each, and compare the largest with the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="Of the bundles; those that are there are taken.")
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--events-per-user", type=int, default=5)
    asked = parser.parse_args()
    found: list[Loaded] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sorted(asked.sizes):
            bundle = made(asked.folder, size=size, events_per_user=asked.events_per_user)
            found.append(load(bundle, size=size, scratch=Path(scratch)))
    header = ["items and users", "load s", "processor s", "memory MiB", "recommender on disk MiB"]
    rows = [[f"{o.size:,}", o.seconds, o.processor, o.memory, o.disk] for o in found]
    table = markdown(header, rows)
    sizes = [one.size for one in found]
    plot_curves(
        asked.out / "size.png",
        {
            "load time (s)": (sizes, [one.seconds for one in found]),
            "memory (GiB)": (sizes, [one.memory / 1024 for one in found]),
        },
        x="items, and as many users",
        y="seconds, GiB",
        title="Loading a bundle",
    )
    largest = found[-1]
    bars = [
        Bar(f"seconds to load {largest.size:,} items and users", largest.seconds, 10.0),
        Bar(f"GiB of {largest.size:,} items and users", largest.memory / 1024, 3.0),
    ]
    return report("size", bars, out=asked.out, tables=[table], bundles=[asdict(o) for o in found])


if __name__ == "__main__":
    sys.exit(main())
