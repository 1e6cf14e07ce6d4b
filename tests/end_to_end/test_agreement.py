"""The marketplace from events to answers: Python, bundle, server and batch give the same lists."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from batch.local import batch_recommend
from export.system import recommend
from features.backend import tf
from interactions.marketplace import PRESETS, generate
from serving.client import RecommenderClient
from tandem.config import parse_config
from tandem.fit import fit, load_run
from tandem.publish import publish, system_now

K = 8
"""Two fewer than the catalogue has; users who have seen more get shorter lists."""


@dataclass(frozen=True)
class World:
    """The seed marketplace, a system trained on it for a moment, and its bundle."""

    system: object
    bundle: Path
    users: list[str]
    metrics: object


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marketplace")
    market = generate(PRESETS["seed"])
    market.write(folder)
    short = {"schedule": {"max_epochs": 1}, "history": 8}
    config = parse_config(
        {
            "data": market.data_config(),
            "tasks": market.tasks_config(),
            "retrieval": short | {"embedding_dim": 8, "batch_events": 4096},
            "ranking": short | {"candidates": 10, "batch_queries": 256, "tower_dims": [16]},
            "export": {"max_k": 10, "parity_users": 16},
        },
        base=folder,
    )
    quiet = Console(quiet=True)
    metrics = fit(config, run=folder / "run", console=quiet)
    bundle = publish(folder / "run", console=quiet)
    trained = load_run(folder / "run", console=quiet)
    # some of the log, and one whom nobody knows
    users = [*trained.data.log.user_ids[::40], "nobody"]
    return World(system_now(trained), bundle.folder, users, metrics)


@pytest.fixture(scope="module")
def truth(world):
    """The lists of the Python models: by user, [(item id, score)] best first."""
    found = recommend(world.system, world.users, k=K)
    ids = world.system.log.item_ids
    return {
        user: [(ids[i], s) for i, s in zip(items, scores, strict=True) if i >= 0]
        for user, items, scores in zip(world.users, found.item, found.score, strict=True)
    }


@dataclass(frozen=True)
class Process:
    """A `tandem serve` of its own."""

    running: subprocess.Popen
    address: str


@pytest.fixture(scope="module")
def served(world):
    command = [str(Path(sys.executable).parent / "tandem"), "serve", str(world.bundle)]
    running = subprocess.Popen(
        [*command, "--grpc-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        told = ""
        for line in running.stdout:
            told += line
            found = re.search(r"serving on (\S+);", line)
            if found:
                yield Process(running, found[1])
                break
        else:
            pytest.fail(f"tandem serve ended: {told}")
    finally:
        running.kill()
        running.wait()


def same(found, truth):
    """Compare lists by user, near-ties aside: equal places must have nearly equal scores."""
    assert found.keys() == truth.keys()
    for user, expected in truth.items():
        mine = found[user]
        assert len(mine) == len(expected), user
        np.testing.assert_allclose(
            [score for _, score in mine], [score for _, score in expected], rtol=1e-4, atol=1e-4
        )
        scores = dict(expected)
        for (item, score), (other, _) in zip(mine, expected, strict=True):
            assert item == other or abs(scores.get(item, score) - score) < 1e-4, user


def test_lists_are_long_enough_to_compare(truth):
    assert "nobody" in truth
    assert sum(len(items) for items in truth.values()) > 2 * len(truth)


def test_the_bundle_agrees_with_python(world, truth):
    (version,) = (world.bundle / "recommender").iterdir()
    model = tf.saved_model.load(str(version)).signatures["serving_default"]
    outputs = {n: v.numpy() for n, v in model(user_id=tf.constant(world.users)).items()}
    same(by_user(world.users, outputs), truth)


def by_user(users, outputs):
    return {
        user: [
            (outputs["item_id"][row, place].decode(), outputs["score"][row, place])
            for place in range(min(K, int(outputs["count"][row])))
        ]
        for row, user in enumerate(users)
    }


def test_a_client_of_official_stubs_gets_the_same_from_tandem_serve(world, truth, served):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "recommender"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(world.users))
    with grpc.insecure_channel(served.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=30)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    same(by_user(world.users, outputs), truth)


def test_our_client_gets_the_same_for_one_user_and_for_many(world, truth, served):
    with RecommenderClient(served.address) as client:
        many = client.recommend(world.users, k=K)
        alone = [client.recommend([user], k=K)[0] for user in world.users[-3:]]
    for answers in (many, alone):
        found = {a.user_id: [(item.item_id, item.score) for item in a.items] for a in answers}
        same(found, {user: truth[user] for user in found})


def test_batch_agrees_with_python(world, truth, tmp_path):
    users = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": world.users}), users)
    batch_recommend(world.bundle, users, tmp_path / "lists", k=K, chunk=7)
    found = {user: [] for user in world.users}
    for row in pq.read_table(tmp_path / "lists").sort_by("rank").to_pylist():
        found[row["user_id"]].append((row["item_id"], row["score"]))
    same(found, truth)


def test_the_oracle_is_judged_beside_the_others(world):
    assert world.metrics["oracle.ndcg@5"].value > world.metrics["popularity.ndcg@5"].value
    # of ten items the top ten are all: whatever they are worth says nothing of their order
    assert not [key for key in world.metrics if "value_share" in key or key.endswith("@10")]


def test_a_stopped_server_ends_well(served):
    """The last one: it ends the server."""
    served.running.send_signal(signal.SIGTERM)
    assert served.running.wait(timeout=20) == 0
    assert "stopped" in served.running.stdout.read()
