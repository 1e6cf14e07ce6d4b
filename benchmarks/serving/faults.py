"""What the server does when things go wrong, each scenario with a server process of its own.

soak        load for minutes: 0 failed, memory flat (under 5 % after the first minute)
swap        a new version every 20 seconds under load: 0 failed
broken      a broken version is dropped in under load: 0 failed, the old one goes on
disconnect  clients that break off in the middle: everybody else is answered
burst       ten times the capacity: no answer after its deadline, full service 2 seconds later
kill        kill -9 and restart: full service again

python -m benchmarks.serving.faults BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.serving.load import free_port, known_users
from benchmarks.serving.report import markdown, plot_curves
from benchmarks.serving.server_process import ServerProcess
from benchmarks.serving.traffic import (
    Calls,
    GrpcTraffic,
    closed_loop,
    open_loop,
    predict_bodies,
)
from serving.client import RecommenderClient

MODEL = "recommender"
MOST_GROWTH = 0.05
DEADLINE = 1.0
RECOVERY_SECONDS = 2.0
FULL_SERVICE = 0.9
_BURST = 10
_BURST_ROWS = 32


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario."""

    scenario: str
    passed: bool
    requests: int
    failures: dict[str, int]
    notes: str
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and resident MiB."""


class Scene:
    """A server of one model whose version folders a scenario may change, and traffic to it."""

    def __init__(self, asked: argparse.Namespace, name: str) -> None:
        self.asked = asked
        self.name = name
        self.base = asked.out / "versions" / name / MODEL
        shutil.rmtree(self.base.parent, ignore_errors=True)
        self.base.mkdir(parents=True)
        versions = [f for f in (asked.bundle / MODEL).iterdir() if f.name.isdecimal()]
        self._source = max(versions, key=lambda folder: int(folder.name))
        self.drop(1)
        self.server = ServerProcess(
            [f"--model_base_path={self.base.resolve()}", f"--model_name={MODEL}"],
            port=free_port(),
            log=asked.out / f"server-{name}.log",
            flags=["--file_system_poll_wait_seconds=1", "--max_num_load_retries=0"],
        )

    def drop(self, version: int, *, broken: bool = False) -> None:
        """Put a version into the model's folder, all at once."""
        partial = self.base.parent / f"{version}.partial"
        # Links, not copies: what is read is the same, and a swap takes no disk.
        shutil.copytree(self._source, partial, copy_function=os.link)
        if broken:
            graph = partial / "saved_model.pb"
            content = graph.read_bytes()
            graph.unlink()
            graph.write_bytes(content[: len(content) // 2])
        partial.rename(self.base / str(version))

    def remove(self, version: int) -> None:
        """Remove a version's folder."""
        shutil.rmtree(self.base / str(version), ignore_errors=True)

    async def states(self) -> dict[int, str]:
        """Return the state of every version."""

        def ask() -> dict[int, str]:
            with RecommenderClient(self.server.address, model=MODEL) as client:
                return {status.version: status.state for status in client.model_status()}

        return await asyncio.to_thread(ask)

    async def state_of(self, version: int, wanted: str, *, within: float = 60.0) -> str:
        """Return a version's state once it is `wanted`, or what it is after that many seconds."""
        end = time.monotonic() + within
        while True:
            state = (await self.states()).get(version, "not seen")
            if state == wanted or time.monotonic() > end:
                return state
            await asyncio.sleep(0.2)

    def traffic(self, *, deadline: float = 30.0, rows: int = 1) -> GrpcTraffic:
        """Return requests for `rows` users each."""
        return GrpcTraffic(
            self.server.address,
            predict_bodies(MODEL, known_users(), rows=rows),
            clients=self.asked.clients,
            deadline=deadline,
        )

    async def load(self, seconds: float, *, rows: int = 1) -> Calls:
        """Load the server for some seconds."""
        async with self.traffic(rows=rows) as traffic:
            return await closed_loop(traffic.ask, clients=self.asked.clients, seconds=seconds)

    async def watch_memory(self, seconds: float) -> list[tuple[float, float]]:
        """Return (seconds, MiB) once a second."""
        began, found = time.monotonic(), []
        while (passed := time.monotonic() - began) < seconds:
            found.append((passed, self.server.memory()))
            await asyncio.sleep(1)
        return found


async def soak(scene: Scene) -> Outcome:
    """Load for minutes."""
    seconds = scene.asked.soak_seconds
    calls, memory = await asyncio.gather(scene.load(seconds), scene.watch_memory(seconds))
    growth = memory_growth(memory)
    return _outcome(
        "soak", [calls], not calls.failures and growth < MOST_GROWTH,
        f"{calls.rate:.0f} requests/s, p99 {calls.quantile(0.99):.0f} ms, memory {growth:+.1%}",
        memory=memory,
    )  # fmt: skip


async def swap(scene: Scene) -> Outcome:
    """Swap the version under load."""
    swaps, every = scene.asked.swaps, scene.asked.swap_seconds
    seconds = (swaps + 1) * every
    task = asyncio.create_task(scene.load(seconds))
    watching = asyncio.create_task(scene.watch_memory(seconds))
    for version in range(2, swaps + 2):
        await asyncio.sleep(every)
        await asyncio.to_thread(scene.drop, version)
        scene.remove(version - 2)
    calls, memory = await task, await watching
    newest = await scene.state_of(swaps + 1, "AVAILABLE")
    return _outcome(
        "swap", [calls], not calls.failures and newest == "AVAILABLE",
        f"{swaps} swaps, version {swaps + 1} is {newest}, p99 {calls.quantile(0.99):.0f} ms, "
        f"longest {calls.seconds.max() * 1e3:.0f} ms",
        memory=memory,
    )  # fmt: skip


async def broken(scene: Scene) -> Outcome:
    """Drop in a version with half a graph, under load."""
    task = asyncio.create_task(scene.load(scene.asked.seconds))
    await asyncio.sleep(scene.asked.seconds / 3)
    await asyncio.to_thread(scene.drop, 2, broken=True)
    calls = await task
    good, bad = await scene.state_of(1, "AVAILABLE"), await scene.state_of(2, "END")
    passed = not calls.failures and (good, bad) == ("AVAILABLE", "END")
    return _outcome("broken", [calls], passed, f"the old version is {good}, the broken one {bad}")


async def disconnect(scene: Scene) -> Outcome:
    """Break off calls and connections in the middle, beside clients that do not."""
    end = time.monotonic() + scene.asked.seconds
    task = asyncio.create_task(scene.load(scene.asked.seconds))
    host, port = scene.server.address.split(":")
    broken_off = 0
    while time.monotonic() < end:
        async with scene.traffic() as traffic:
            asking = [asyncio.create_task(traffic.ask(n)) for n in range(8)]
            await asyncio.sleep(0.003)
            for call in asking:
                call.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            broken_off += len(asking)
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00")
    calls = await task
    return _outcome(
        "disconnect", [calls], not calls.failures and scene.server.is_alive,
        f"{broken_off} calls broken off",
    )  # fmt: skip


async def burst(scene: Scene) -> Outcome:
    """Send ten times what the server can take, with a deadline; then see that it is well.

    The requests are large, so that this program can send ten times as many and still look in time.
    """
    capacity = (await scene.load(scene.asked.seconds / 3, rows=_BURST_ROWS)).rate
    async with scene.traffic(deadline=DEADLINE, rows=_BURST_ROWS) as traffic:
        storm = await open_loop(
            traffic.ask, rate=_BURST * capacity, seconds=scene.asked.burst_seconds
        )
    await asyncio.sleep(max(0.0, RECOVERY_SECONDS - DEADLINE))
    after = await scene.load(scene.asked.seconds / 3, rows=_BURST_ROWS)
    late = float(storm.seconds[storm.answered].max()) if storm.answered.any() else 0.0
    passed = (
        scene.server.is_alive
        and late <= DEADLINE + storm.lag
        and not after.failures
        and after.rate >= FULL_SERVICE * capacity
    )
    return _outcome(
        "burst", [storm, after], passed,
        f"capacity {capacity:.0f}/s, sent {len(storm.codes) / storm.elapsed:.0f}/s, in the storm "
        f"{storm.rate:.0f}/s answered, latest after {late:.2f} s "
        f"(this program looked late by {storm.lag:.2f} s), then {after.rate:.0f}/s "
        f"and {len(after.failures)} failed",
    )  # fmt: skip


async def kill(scene: Scene) -> Outcome:
    """End the process with SIGKILL under load, and start it again."""
    task = asyncio.create_task(scene.load(scene.asked.seconds))
    await asyncio.sleep(scene.asked.seconds / 3)
    scene.server.kill()
    seconds = await asyncio.to_thread(scene.server.restart)
    during, after = await task, await scene.load(scene.asked.seconds / 3)
    passed = not after.failures and set(during.failures) <= {"UNAVAILABLE"}
    return _outcome("kill", [during, after], passed, f"up again after {seconds:.1f} s")


SCENARIOS: dict[str, Callable[[Scene], Coroutine[None, None, Outcome]]] = {
    scenario.__name__: scenario for scenario in (soak, swap, broken, disconnect, burst, kill)
}


def memory_growth(memory: Sequence[tuple[float, float]]) -> float:
    """Return by what share memory (seconds, MiB) grew from the end of the first minute on.

    Medians of the tenth after that minute and of the last tenth; a run of less than two minutes
    takes its half for the minute.
    """
    times, sizes = np.array(memory).T
    first = min(60.0, times[-1] / 2)
    width = (times[-1] - first) / 10
    start = sizes[(times >= first) & (times <= first + width)]
    end = sizes[times >= times[-1] - width]
    return float(np.median(end) / np.median(start) - 1)


def _outcome(
    scenario: str,
    calls: Sequence[Calls],
    passed: bool,
    notes: str,
    *,
    memory: list[tuple[float, float]] | None = None,
) -> Outcome:
    failures: Counter[str] = Counter()
    for some in calls:
        failures.update(some.failures)
    requests = sum(len(some.codes) for some in calls)
    return Outcome(scenario, bool(passed), requests, dict(failures), notes, memory or [])


def write_report(outcomes: Sequence[Outcome], out: Path) -> None:
    """Write faults.json, faults.md and a plot of memory."""
    (out / "faults.json").write_text(json.dumps([asdict(o) for o in outcomes], indent=1))
    rows = [
        (o.scenario, "yes" if o.passed else "no", o.requests, o.failures or "none", o.notes)
        for o in outcomes
    ]
    text = f"# Faults, {os.cpu_count()} cores shared with the load generator\n\n"
    text += markdown(("scenario", "passed", "requests", "failures", "notes"), rows)
    (out / "faults.md").write_text(text)
    curves = {
        o.scenario: ([second for second, _ in o.memory], [size for _, size in o.memory])
        for o in outcomes
        if o.memory
    }
    if curves:
        plot_curves(
            out / "memory.png", curves, x="seconds", y="resident MiB", title="memory over time"
        )
    print(text)


def main() -> None:
    """Run the scenarios, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, required=True)
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="of load in a short scenario")
    parser.add_argument("--soak-seconds", type=float, default=600.0)
    parser.add_argument("--swap-seconds", type=float, default=20.0)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--burst-seconds", type=float, default=5.0)
    asked = parser.parse_args()
    outcomes = []
    for name in asked.scenarios:
        scene = Scene(asked, name)
        with scene.server:
            outcomes.append(asyncio.run(SCENARIOS[name](scene)))
        print(outcomes[-1].scenario, outcomes[-1].passed, outcomes[-1].notes, flush=True)
    write_report(outcomes, asked.out)


if __name__ == "__main__":
    main()
