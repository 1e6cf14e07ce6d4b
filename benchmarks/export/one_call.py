"""One call to the recommender beside the usual three steps, over the same server.

Three steps: call retrieval, look the features of its candidates up in Python, call ranking, sort.
The tutorial's way ranks one row per candidate with the user repeated, as TFRS's tutorials do; our
ranking model has item features in its graph, so what was joined is not sent, which favours the
three steps. The leanest way joins nothing and sends one row of candidates. At most .6 of the
tutorial's median and .75 of the leanest, at 100,000 items and 200 candidates.

    python -m benchmarks.serving.bundle BUNDLE --items 100000
    python -m benchmarks.export.one_call BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, alternating, ratio, report, times_table
from benchmarks.serving.load import free_port, known_users
from benchmarks.serving.server_process import ServerProcess
from benchmarks.serving.traffic import PREDICT
from export.manifest import read_bundle
from export.signatures import MODELS
from serving.messages import PredictRequest, PredictResponse
from serving.tensors import to_array, to_tensor

K = 10
Arrays = Mapping[str, np.ndarray]
Features = Mapping[str, float | str]


class Caller:
    """Asks a server's models over one connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._call = channel.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )

    def ask(self, model: str, inputs: Mapping[str, Any]) -> Arrays:
        """Return the outputs of `model`."""
        request = PredictRequest()
        request.model_spec.name = model
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(to_tensor(values))
        outputs = self._call(request, timeout=60).outputs
        return {name: to_array(tensor) for name, tensor in outputs.items()}


def one_call(caller: Caller, user: str) -> list[bytes]:
    """Ask the recommender."""
    found = caller.ask("recommender", {"user_id": [user]})
    return found["item_id"][0, : min(K, int(found["count"][0]))].tolist()


def leanest(caller: Caller, user: str) -> list[bytes]:
    """Retrieve, rank the candidates as one row, sort."""
    found = caller.ask("retrieval", {"user_id": [user]})
    count = int(found["count"][0])
    items, scores = found["item_id"][:, :count], found["score"][:, :count]
    inputs = {"user_id": [user], "item_id": items, "retrieval_score": scores}
    ranked = caller.ask("ranking", inputs)["score"][0]
    return items[0][np.argsort(-ranked, kind="stable")[:K]].tolist()


def tutorial(caller: Caller, user: str, features: Mapping[bytes, Features]) -> list[bytes]:
    """Retrieve, join, rank a row per candidate, sort."""
    found = caller.ask("retrieval", {"user_id": [user]})
    count = int(found["count"][0])
    items = found["item_id"][0, :count]
    joined = [features[item] for item in items]
    inputs = {
        "user_id": [user] * len(joined),
        "item_id": items[:, np.newaxis],
        "retrieval_score": found["score"][0, :count, np.newaxis],
    }
    ranked = caller.ask("ranking", inputs)["score"][:, 0]
    return items[np.argsort(-ranked, kind="stable")[:K]].tolist()


def feature_store(bundle: Path, *, version: int) -> dict[bytes, Features]:
    """Return made-up features of every item of a bundle, by id."""
    ids = bundle / "retrieval" / str(version) / "assets" / "item_ids.txt"
    rng = np.random.default_rng(0)
    lines = ids.read_bytes().splitlines()
    prices = rng.lognormal(size=len(lines)).tolist()
    return {
        item: {"price": price, "category": f"c{number % 50}"}
        for number, (item, price) in enumerate(zip(lines, prices, strict=True))
    }


def models_config(bundle: Path, *, folder: Path) -> Path:
    """Write a models.config of all three models of a bundle."""
    entries = [
        f'config {{ name: "{name}" base_path: "{(bundle / name).resolve()}" '
        'model_platform: "tensorflow" }'
        for name in MODELS
    ]
    file = folder / "models.config"
    file.write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n", encoding="utf-8")
    return file


def in_turn(ways: Sequence[Callable[[str], object]], users: Sequence[str]) -> Iterator[Any]:
    """Return, for each way, a call that asks for one user after the other."""
    for way in ways:
        turn = itertools.cycle(users)
        yield lambda way=way, turn=turn: way(next(turn))


def main() -> int:
    """Check that the ways agree, and time them in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    users = known_users(500)
    features = feature_store(asked.bundle, version=read_bundle(asked.bundle).manifest.version)
    with tempfile.TemporaryDirectory() as scratch:
        served = [f"--model_config_file={models_config(asked.bundle, folder=Path(scratch))}"]
        port, log = free_port(), Path(scratch) / "server.log"
        with (
            ServerProcess(served, port=port, log=log) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            caller = Caller(channel)
            ways = {
                "one call": lambda user: one_call(caller, user),
                "leanest three steps": lambda user: leanest(caller, user),
                "tutorial's three steps": lambda user: tutorial(caller, user, features),
            }
            answers = [[way(user) for user in users[:20]] for way in ways.values()]
            agree = float(np.mean([answers[0] == other for other in answers[1:]]))
            calls = dict(zip(ways, in_turn(list(ways.values()), users), strict=True))
            times = alternating(calls, rounds=asked.rounds, warm_up=10)
    bars = [
        Bar(
            "one call: share of the tutorial's",
            ratio(times, "one call", "tutorial's three steps"),
            0.6,
        ),
        Bar(
            "one call: share of the leanest", ratio(times, "one call", "leanest three steps"), 0.75
        ),
    ]
    return report("one_call", bars, out=asked.out, tables=[times_table(times)], agree=agree)


if __name__ == "__main__":
    sys.exit(main())
