"""Throughput against latency: 1 to 64 clients with one-user requests, batching off and on.

Two servers run side by side, one with batching; slices alternate between them, so that what else
the machine does hits both alike, and the median of the slices counts.

    python -m benchmarks.serving.bundle BUNDLE
    python -m benchmarks.serving.load BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.arguments import results_folder
from benchmarks.serving.report import markdown, plot_curves
from benchmarks.serving.server_process import ServerProcess
from benchmarks.serving.traffic import (
    Calls,
    GrpcTraffic,
    RestTraffic,
    closed_loop,
    predict_bodies,
)

_MODELS_CONFIG = 'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
_BATCHING = (
    "max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: {timeout} }} "
    "max_enqueued_batches {{ value: 100 }} num_batch_threads {{ value: {threads} }}"
)
BARS = {"recommender": 2.0, "retrieval": 3.0}
"""Throughput with batching over that without, at 32 clients."""
BAR_CLIENTS = 32


@dataclass(frozen=True)
class Point:
    """The medians of some slices."""

    model: str
    door: str
    batching: bool
    clients: int
    rate: float
    p50: float
    p99: float
    cpu: float
    """The server's processor time for a request, in milliseconds."""
    failed: int


def known_users(count: int = 2000) -> list[str]:
    """Return ids of users of a bundle that benchmarks.serving.bundle made."""
    return [f"user-{n}" for n in range(count)]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]


def write_models_config(bundle: Path, file: Path) -> Path:
    """Write a models.config of all models of a bundle."""
    models = [_MODELS_CONFIG.format(name=name, path=(bundle / name).resolve()) for name in BARS]
    file.write_text("model_config_list {\n" + "\n".join(models) + "\n}\n")
    return file


def start_servers(asked: argparse.Namespace, stack: ExitStack) -> dict[bool, ServerProcess]:
    """Start a server without and one with batching."""
    out: Path = asked.out
    config = write_models_config(asked.bundle, out / "models.config")
    parameters = out / "batching.config"
    parameters.write_text(
        _BATCHING.format(timeout=asked.batch_timeout_micros, threads=asked.num_batch_threads)
    )
    batching = ["--enable_batching", f"--batching_parameters_file={parameters}"]
    servers = {}
    for on, flags in ((False, []), (True, batching)):
        server = ServerProcess(
            [f"--model_config_file={config}"],
            port=free_port(),
            rest_port=free_port() if "rest" in asked.doors else 0,
            log=out / f"server-{'batching' if on else 'plain'}.log",
            flags=[*flags, f"--rest_api_num_threads={max(asked.clients)}"],
        )
        servers[on] = stack.enter_context(server)
    return servers


@dataclass(frozen=True)
class Slice:
    """What came of some seconds of load."""

    calls: Calls
    cpu: float
    """The server's processor time for a request, in milliseconds."""


def one_slice(
    server: ServerProcess, *, door: str, model: str, clients: int, seconds: float
) -> Slice:
    """Load a server for some seconds."""
    users = known_users()
    if door == "grpc":
        traffic = GrpcTraffic(server.address, predict_bodies(model, users), clients=clients)
    else:
        assert server.rest_address is not None
        traffic = RestTraffic(server.rest_address, model, users, clients=clients)

    async def load() -> Calls:
        async with traffic:
            return await closed_loop(traffic.ask, clients=clients, seconds=seconds)

    before = server.cpu_seconds()
    calls = asyncio.run(load())
    return Slice(calls, cpu=(server.cpu_seconds() - before) * 1e3 / len(calls.codes))


def measure(asked: argparse.Namespace, servers: dict[bool, ServerProcess]) -> list[Point]:
    """Return a point for each model, door, number of clients, and batching off and on."""
    points = []
    for model, door, clients in product(asked.models, asked.doors, asked.clients):
        slices: dict[bool, list[Slice]] = {False: [], True: []}
        for _ in range(asked.repeats):
            for on, server in servers.items():
                slices[on].append(
                    one_slice(
                        server, door=door, model=model, clients=clients, seconds=asked.seconds
                    )
                )
        for on, found in slices.items():
            points.append(_point(found, model=model, door=door, batching=on, clients=clients))
            print(points[-1], flush=True)
    return points


def _point(found: list[Slice], *, model: str, door: str, batching: bool, clients: int) -> Point:
    return Point(
        model=model,
        door=door,
        batching=batching,
        clients=clients,
        rate=median(some.calls.rate for some in found),
        p50=median(some.calls.quantile(0.5) for some in found),
        p99=median(some.calls.quantile(0.99) for some in found),
        cpu=median(some.cpu for some in found),
        failed=sum(sum(some.calls.failures.values()) for some in found),
    )


def write_report(points: list[Point], out: Path) -> None:
    """Write load.json, load.md and a plot for each model and door."""
    (out / "load.json").write_text(json.dumps([asdict(point) for point in points], indent=1))
    header = ("model", "door", "batching", "clients", "requests/s", "p50 ms", "p99 ms",
              "server CPU ms a request", "failed")  # fmt: skip
    rows = [
        (p.model, p.door, "on" if p.batching else "off", p.clients, p.rate, p.p50, p.p99,
         p.cpu, p.failed)
        for p in points
    ]  # fmt: skip
    text = f"# Load, {os.cpu_count()} cores shared with the load generator\n\n"
    text += markdown(header, rows) + "\n" + markdown(*gains(points))
    (out / "load.md").write_text(text)
    for model, door in sorted({(p.model, p.door) for p in points}):
        curves = {}
        for on in (False, True):
            some = [p for p in points if (p.model, p.door, p.batching) == (model, door, on)]
            name = "batching" if on else "no batching"
            curves[f"{name}, p50"] = ([p.rate for p in some], [p.p50 for p in some])
            curves[f"{name}, p99"] = ([p.rate for p in some], [p.p99 for p in some])
        plot_curves(
            out / f"load-{model}-{door}.png", curves,
            x="requests a second", y="milliseconds", title=f"{model} over {door}",
        )  # fmt: skip
    print(text)


def gains(points: list[Point]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return header and rows: how much batching gains at 32 clients, beside what is asked."""
    rates = {(p.model, p.door, p.batching): p.rate for p in points if p.clients == BAR_CLIENTS}
    rows: list[tuple[object, ...]] = []
    for (model, door, on), rate in rates.items():
        if on:
            gain = rate / rates[model, door, False]
            rows.append((model, door, gain, BARS[model], "yes" if gain >= BARS[model] else "no"))
    return ("model", "door", "gain at 32 clients", "bar", "met"), rows


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--models", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--doors", nargs="+", choices=["grpc", "rest"], default=["grpc", "rest"])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a slice")
    parser.add_argument("--repeats", type=int, default=5, help="slices for each point")
    parser.add_argument("--batch-timeout-micros", type=int, default=1000)
    parser.add_argument("--num-batch-threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    with ExitStack() as stack:
        points = measure(asked, start_servers(asked, stack))
    write_report(points, asked.out)


if __name__ == "__main__":
    main()
