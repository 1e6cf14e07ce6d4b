"""A tiny bundle whose right answers are plain: every user's list is made of the user's own id."""

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.manifest import (
    IndexEntry,
    Manifest,
    ParityEntry,
    WidthsEntry,
    WindowEntry,
    sha256,
)
from features.backend import tf
from serving.server import serve

MAX_K = 4
USERS = ("ann", "bob", "zoë")


class TinyRecommender(tf.Module):
    """Gives user u the items u/0 .. u/3, scores falling; a known user has 4 of them, others 2."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.vocabulary = tf.saved_model.Asset(str(vocabulary))
        self.users = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                self.vocabulary,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
        self.scores = tf.Variable([4.0, 3.0, 2.0, 1.0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="user_id")])
    def recommend(self, user_id):
        row = self.users.lookup(user_id)
        ranks = tf.range(MAX_K)
        score = self.scores[None, :] + tf.cast(row, tf.float32)[:, None]
        return {
            "item_id": user_id[:, None] + "/" + tf.strings.as_string(ranks)[None],
            "score": score,
            "retrieval_score": score / 2,
            "rating": score + 10,
            "purchase": score + 20,
            "count": tf.where(row < 0, 2, MAX_K),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def project(self, x):
        total = x @ tf.constant([[1.0], [2.0]])
        word = tf.constant(b"end\0")
        return {"total": total, "again": total, "double": 2 * total, "word": word}


def save_model(folder: Path, *, vocabulary_folder: Path) -> None:
    vocabulary = vocabulary_folder / "users.txt"
    vocabulary.write_text("\n".join(USERS) + "\n", encoding="utf-8")
    module = TinyRecommender(vocabulary)
    signatures = {"serving_default": module.recommend, "project": module.project}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_warmup(model: Path, *requests: predict_pb2.PredictRequest) -> None:
    (model / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(model / "assets.extra/tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def warmup_request(**inputs: object) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """The version folder of a saved TinyRecommender; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "00000003"
    save_model(folder, vocabulary_folder=tmp_path_factory.mktemp("vocabulary"))
    write_warmup(folder, warmup_request(user_id=["ann"]))
    return folder


def write_bundle(folder: Path, saved_model: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.config").write_text(
        'model_config_list { config { name: "recommender" '
        'base_path: "/models/recommender" model_platform: "tensorflow" } }\n'
        '# config { name: "retrieval" base_path: "/models/retrieval" }\n'
    )
    shutil.copytree(saved_model, folder / "recommender" / saved_model.name)
    (folder / "manifest.json").write_text(manifest_of(folder).to_json())
    return folder


def manifest_of(folder: Path) -> Manifest:
    files = [
        file for file in sorted(folder.rglob("*")) if file.is_file() and "config" not in file.name
    ]
    return Manifest(
        version=3,
        created="2024-01-01T00:00:00+00:00",
        config={},
        schema={},
        vocabularies={},
        window=WindowEntry(events=0, users=3, items=0, first=None, last=None),
        metrics={},
        metrics_of="these models",
        tasks={},
        repeats=True,
        widths=WidthsEntry(max_k=MAX_K, candidates=MAX_K, max_batch=1),
        signatures={},
        index=IndexEntry(kind="exact", is_exact=True, recall=1.0, k=MAX_K),
        parity=ParityEntry(largest_difference={}, tolerance=1e-4, users=0),
        packages={},
        checksums={file.relative_to(folder).as_posix(): sha256(file) for file in files},
    )


@pytest.fixture
def bundle(tmp_path, saved_model):
    """A bundle of its own for a test that breaks it."""
    return write_bundle(tmp_path / "bundle", saved_model)


@pytest.fixture(scope="session")
def server(tmp_path_factory, saved_model):
    """A running server; not to be stopped."""
    folder = write_bundle(tmp_path_factory.mktemp("served") / "bundle", saved_model)
    with serve(folder, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def expected_scores():
    """Scores [4] float32 of the user in row `row` of the vocabulary, -1 for an unknown one."""
    return lambda row: np.array([4.0, 3.0, 2.0, 1.0], np.float32) + row


class ExampleModel(tf.Module):
    """Reads x from Examples: half plus two as score and regression, the sign as class."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        x = self._x(inputs)
        return {
            "scores": tf.concat([x / 2 + 2, -x], axis=1),
            "classes": tf.where(tf.concat([x, -x], axis=1) < 0, "below", "above"),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def scores_only(self, inputs):
        return {"scores": self._x(inputs) / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": self._x(inputs) / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress_pair(self, inputs):
        x = self._x(inputs)
        return {"outputs": tf.concat([x, x], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress_whole(self, inputs):
        return {"outputs": tf.cast(self._x(inputs)[:, 0], tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def flat_scores(self, inputs):
        return {"scores": self._x(inputs)[:, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def other_input(self, text):
        return {"outputs": tf.strings.length(text)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.float32, name="y"),
        ]
    )
    def add(self, x, y):
        return {"outputs": x + y}

    def _x(self, serialized):
        spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return tf.io.parse_example(serialized, spec)["x"]


@pytest.fixture(scope="session")
def example_model(tmp_path_factory):
    """The version folder of a saved ExampleModel; not to be changed."""
    folder = tmp_path_factory.mktemp("examples") / "7"
    module = ExampleModel()
    names = ("scores_only", "regress", "regress_pair", "regress_whole", "flat_scores")
    signatures = {name: getattr(module, name) for name in (*names, "other_input", "add")}
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": module.classify, **signatures}
    )
    return folder
