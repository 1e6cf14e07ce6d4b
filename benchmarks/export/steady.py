"""A server's memory over many requests of mixed shapes to all signatures of a bundle.

Batches of 1 to 32, lists of 1 to 200 candidates to rank, requests with and without rules, drawn by
chance. From a fifth of the requests on, when every signature has been asked at many shapes, memory
may grow by 2 %. (That no shape is traced anew is a test: tests/export/test_steady.py.)

    python -m benchmarks.serving.bundle BUNDLE --items 100000
    python -m benchmarks.export.steady BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, report
from benchmarks.export.one_call import models_config
from benchmarks.export.rules import silent, with_rules
from benchmarks.serving.load import free_port, known_users
from benchmarks.serving.report import markdown, plot_curves
from benchmarks.serving.server_process import ServerProcess
from benchmarks.serving.traffic import PREDICT
from export.manifest import Bundle, read_bundle
from export.signatures import DEFAULT, RANKING, RECOMMENDER, REQUEST, RETRIEVAL
from serving.messages import PredictRequest
from serving.tensors import to_tensor

MOST_ROWS, MOST_CANDIDATES, KNOWN = 32, 200, 200
GROWTH = 0.02
_POINTS = 50
"""How often memory is looked at."""

Inputs = Mapping[str, Any]


def asked_at_random(bundle: Bundle, rng: np.random.Generator) -> tuple[str, str, Inputs]:
    """Return a model, a signature, and inputs of some shape."""
    rows = int(rng.integers(1, MOST_ROWS + 1))
    users = rng.choice(known_users(KNOWN), rows).tolist()
    items = [f"item-{n}" for n in rng.integers(0, KNOWN, rows)]

    def ranked() -> Inputs:
        shape = (rows, int(rng.integers(1, MOST_CANDIDATES + 1)))
        names = np.array([f"item-{n}" for n in range(KNOWN)], object)
        scores = rng.normal(size=shape).astype(np.float32)
        return {
            "user_id": users,
            "item_id": names[rng.integers(0, KNOWN, shape)],
            "retrieval_score": scores,
        }

    def requested() -> Inputs:
        described = bundle.manifest.signatures[RECOMMENDER][REQUEST]
        inputs = silent(described, batch=rows, k=int(rng.integers(1, 20)))
        return with_rules(inputs) if rng.random() < 0.5 else inputs

    ways: list[tuple[str, str, Callable[[], Inputs]]] = [
        (RECOMMENDER, DEFAULT, lambda: {"user_id": users}),
        (RECOMMENDER, REQUEST, requested),
        (RETRIEVAL, DEFAULT, lambda: {"user_id": users}),
        (RETRIEVAL, "embed_user", lambda: {"user_id": users}),
        (RETRIEVAL, "embed_item", lambda: {"item_id": items}),
        (RETRIEVAL, "similar_items", lambda: {"item_id": items}),
        (RANKING, DEFAULT, ranked),
    ]
    model, signature, inputs = ways[rng.integers(len(ways))]
    return model, signature, inputs()


def message(model: str, signature: str, inputs: Inputs) -> bytes:
    """Return a PredictRequest."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(to_tensor(values))
    return request.SerializeToString()


def memory_over(
    server: ServerProcess, bundle: Bundle, *, requests: int, seed: int
) -> tuple[list[int], list[float]]:
    """Ask `requests` times; return after how many it was looked at, and MiB."""
    rng, every = np.random.default_rng(seed), max(requests // _POINTS, 1)
    numbers, memory = [0], [server.memory()]
    with grpc.insecure_channel(server.address) as channel:
        ask = channel.unary_unary(PREDICT)
        for number in range(1, requests + 1):
            ask(message(*asked_at_random(bundle, rng)), timeout=60)
            if number % every == 0:
                numbers.append(number)
                memory.append(server.memory())
    return numbers, memory


def main() -> int:
    """Ask, and compare the memory at the end with that after a fifth of the requests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    bundle = read_bundle(asked.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        served = [f"--model_config_file={models_config(asked.bundle, folder=Path(scratch))}"]
        with ServerProcess(served, port=free_port(), log=Path(scratch) / "server.log") as server:
            numbers, memory = memory_over(server, bundle, requests=asked.requests, seed=asked.seed)
    settled = memory[len(memory) // 5]
    growth = memory[-1] / settled - 1
    plot_curves(
        asked.out / "steady.png",
        {"resident memory (MiB)": (numbers, memory)},
        x="requests",
        y="MiB",
        title="A server's memory over requests of mixed shapes",
    )
    shown = [[n, m] for n, m in zip(numbers, memory, strict=True)][:: max(len(numbers) // 10, 1)]
    bars = [Bar(f"growth from request {numbers[len(numbers) // 5]:,} to {numbers[-1]:,}",
                growth, GROWTH)]  # fmt: skip
    return report(
        "steady", bars, out=asked.out, tables=[markdown(["requests", "memory MiB"], shown)]
    )


if __name__ == "__main__":
    sys.exit(main())
