"""What the server costs beside the graph, as medians of alternating slices.

Throughput: answers a second of the server for requests of 32 users, against calling the loaded
graph directly from as many threads. One small request, to a model that halves a number and adds
two: the handler's time outside the graph (bytes in, bytes out, in this process), and the whole over
gRPC against the graph plus a bare gRPC echo of the same messages. The same is told of a request of
one user, whose graph takes a hundred times as long and leaves nothing of ours in the caches.
Server, echo and this program are processes of their own.

    python -m benchmarks.serving.overhead BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.serving.load import free_port, known_users
from benchmarks.serving.report import markdown
from benchmarks.serving.server_process import ServerProcess
from benchmarks.serving.traffic import PREDICT, predict_bodies
from features.backend import tf
from serving import inference
from serving.admission import Arrays
from serving.apis import PredictRequest
from serving.loading import LoadSettings, load_model
from serving.options import ServerOptions
from serving.queueing import Queueing
from serving.runners import Runner, RunnerKey
from serving.tensors import write_tensor
from serving.versions import find_versions

ROWS = 32
ECHO = "/tandem.benchmarks/Echo"


@dataclass(frozen=True)
class Bar:
    """A measured value beside what is asked."""

    what: str
    value: float
    bar: float
    met: bool


class TimedGraph:
    """A runner that keeps how long its last run took, in milliseconds."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.last = 0.0

    def run(self, inputs: Arrays, *, deadline: float | None = None) -> Arrays:
        """Run the graph."""
        began = time.perf_counter()
        try:
            return self._runner.run(inputs, deadline=deadline)
        finally:
            self.last = (time.perf_counter() - began) * 1e3

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()


class Direct:
    """A model of the bundle in this process: its graph, and its handler around the graph."""

    def __init__(self, path: Path, *, name: str, version: int) -> None:
        queueing = Queueing.of(ServerOptions(model_base_path=path.parent))
        self.graphs: list[TimedGraph] = []

        def wrap(runner: Runner, key: RunnerKey) -> Runner:
            self.graphs.append(TimedGraph(runner))
            return queueing(self.graphs[-1], key)

        self._model = load_model(
            path, name=name, version=version, settings=LoadSettings(wrap=wrap, warm_up=False)
        )
        plan = self._model.plan("")
        assert plan is not None
        self._model.runner(plan, plan.outputs)

    def run(self, inputs: Arrays) -> Arrays:
        """Run the graph of `serving_default` alone."""
        return self.graphs[0].run(inputs)

    def handle(self, body: bytes) -> bytes:
        """Answer a request as the gRPC door does, from bytes to bytes."""
        answer = inference.predict(self._model, PredictRequest.FromString(body), deadline=None)
        return answer.SerializeToString()

    def outside(self, body: bytes) -> float:
        """Return the milliseconds of the handler outside the graph."""
        began = time.perf_counter()
        self.handle(body)
        return (time.perf_counter() - began) * 1e3 - self.graphs[0].last


def rate(call: Callable[[int], object], *, threads: int, seconds: float) -> float:
    """Return calls a second from some threads, each with a number of its own."""

    def work(number: int) -> int:
        done = 0
        while time.monotonic() < end:
            call(number)
            number += threads
            done += 1
        return done

    with futures.ThreadPoolExecutor(threads) as pool:
        began = time.monotonic()
        end = began + seconds
        done = sum(pool.map(work, range(threads)))
        return done / (time.monotonic() - began)


def milliseconds(call: Callable[[int], object], *, seconds: float) -> list[float]:
    """Return how long calls took, one after the other."""
    found = []
    end = time.monotonic() + seconds
    while (began := time.perf_counter()) and time.monotonic() < end:
        call(len(found))
        found.append((time.perf_counter() - began) * 1e3)
    return found


def echo(port: int, answer: bytes, threads: int) -> None:
    """Answer every call at `port` with `answer`, until the process ends."""
    server = grpc.server(futures.ThreadPoolExecutor(threads))
    handler = grpc.unary_unary_rpc_method_handler(lambda message, context: answer)
    service, method = ECHO.strip("/").split("/")
    generic = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


@contextmanager
def echo_process(answer: bytes, *, threads: int) -> Iterator[str]:
    """Give the address of an echo server in a process of its own."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(
        target=echo, args=(port, answer, threads), daemon=True
    )
    process.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


@contextmanager
def caller(address: str, path: str, bodies: Sequence[bytes]) -> Iterator[Callable[[int], bytes]]:
    """Give a function that sends body n and returns the answer's bytes."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=120)
        method = channel.unary_unary(path)
        yield lambda number: method(bodies[number % len(bodies)], timeout=60)


def throughput_bar(asked: argparse.Namespace, direct: Direct, server: ServerProcess) -> Bar:
    """Compare requests of 32 users to the server with direct calls, from as many threads."""
    users = known_users()
    groups = [users[n : n + ROWS] for n in range(0, len(users) - ROWS, ROWS)]
    bodies = predict_bodies(asked.model, users, rows=ROWS)
    shares = []
    with caller(server.address, PREDICT, bodies) as ask:
        for _ in range(asked.repeats):
            served = rate(ask, threads=asked.threads, seconds=asked.seconds)
            alone = rate(
                lambda number: direct.run(_asking(groups[number % len(groups)])),
                threads=asked.threads,
                seconds=asked.seconds,
            )
            shares.append(served / alone)
    value = median(shares)
    return Bar("throughput at batch 32, share of direct calls", value, 0.85, value >= 0.85)


def _asking(users: Sequence[str]) -> Arrays:
    return {"user_id": np.array([user.encode() for user in users], object)}


def latency_bars(
    asked: argparse.Namespace,
    direct: Direct,
    server: ServerProcess,
    *,
    what: str,
    bodies: Sequence[bytes],
    inputs: Sequence[Arrays],
) -> list[Bar]:
    """Measure one request after the other: the handler outside the graph, and the whole."""
    inside, over = [], []
    with (
        echo_process(direct.handle(bodies[0]), threads=16) as address,
        caller(server.address, PREDICT, bodies) as ask,
        caller(address, ECHO, bodies) as ask_echo,
    ):
        for _ in range(asked.repeats):
            end = time.monotonic() + asked.seconds
            outside = []
            while time.monotonic() < end:
                outside.append(direct.outside(bodies[len(outside) % len(bodies)]))
            inside.append(median(outside))
            whole = median(milliseconds(ask, seconds=asked.seconds))
            bare = median(milliseconds(ask_echo, seconds=asked.seconds))
            graph = median(
                milliseconds(
                    lambda number: direct.run(inputs[number % len(inputs)]), seconds=asked.seconds
                )
            )
            over.append(whole - bare - graph)
    return [
        Bar(
            f"{what}: handler outside the graph, p50 ms", median(inside), 0.3, median(inside) <= 0.3
        ),
        Bar(
            f"{what}: whole over graph and bare echo, p50 ms",
            median(over),
            0.5,
            median(over) <= 0.5,
        ),
    ]


def save_small_model(base: Path) -> Path:
    """Save version 1 of a model that halves `x` and adds two below `base`."""

    class HalfPlusTwo(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x / 2.0 + 2.0}

    model = HalfPlusTwo()
    tf.saved_model.save(model, str(base / "1"), signatures=model.__call__)
    return base / "1"


def small_bodies(name: str, count: int) -> tuple[list[bytes], Sequence[Arrays]]:
    """Return requests of one number, as bytes and as arrays."""
    inputs = [{"x": np.array([number], np.float32)} for number in range(count)]
    bodies = []
    for given in inputs:
        request = PredictRequest()
        request.model_spec.name = name
        write_tensor(request.inputs["x"], given["x"])
        bodies.append(request.SerializeToString())
    return bodies, inputs


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, required=True)
    parser.add_argument("--model", default="recommender")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a slice")
    parser.add_argument("--repeats", type=int, default=15, help="slices of each kind")
    asked = parser.parse_args()
    base = asked.bundle / asked.model
    versions = find_versions(base)
    if not versions:
        raise SystemExit(f"no version below {base}; make one: python -m benchmarks.serving.bundle")
    version, path = max(versions.items())
    direct = Direct(path, name=asked.model, version=version)
    with ExitStack() as stack:
        served = [f"--model_base_path={base.resolve()}", f"--model_name={asked.model}"]
        log = asked.out / "server-overhead.log"
        server = stack.enter_context(ServerProcess(served, port=free_port(), log=log))
        bars = [throughput_bar(asked, direct, server)]
        users = known_users()
        bars += latency_bars(
            asked,
            direct,
            server,
            what=f"one user of {asked.model}",
            bodies=predict_bodies(asked.model, users),
            inputs=[_asking([user]) for user in users],
        )
    with ExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory())) / "small"
        small = Direct(save_small_model(base), name="small", version=1)
        served = [f"--model_base_path={base}", "--model_name=small"]
        log = asked.out / "server-small.log"
        server = stack.enter_context(ServerProcess(served, port=free_port(), log=log))
        bodies, inputs = small_bodies("small", 64)
        bars += latency_bars(
            asked, small, server, what="one small request", bodies=bodies, inputs=inputs
        )
    (asked.out / "overhead.json").write_text(json.dumps([asdict(bar) for bar in bars], indent=1))
    rows = [(bar.what, bar.value, bar.bar, "yes" if bar.met else "no") for bar in bars]
    text = f"# Overhead of {asked.model}, {os.cpu_count()} cores\n\n"
    text += markdown(("what", "measured", "bar", "met"), rows)
    (asked.out / "overhead.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
