"""Loading a SavedModel: its assets and variables, its warm-up, and what stops it."""

import shutil
import subprocess
import sys
import time

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from features.backend import tf
from serving import inference
from serving.errors import ServingError
from serving.loading import LoadSettings, load_model
from serving.models import GraphRunner

WARMUP = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture
def folder(tmp_path, saved_model):
    return shutil.copytree(saved_model, tmp_path / "1")


def request(signature="", **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.signature_name = signature
    for name, values in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return made


def write_logs(folder, *records):
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for record in records:
            writer.write(record)


def predict_log(**inputs):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request(**inputs))
    return log.SerializeToString()


def load(folder, **settings):
    return load_model(folder, name="m", version=1, settings=LoadSettings(**settings))


def outputs(response):
    return {name: tf.make_ndarray(tensor).tolist() for name, tensor in response.outputs.items()}


def test_assets_and_variables_are_there(folder, expected_scores):
    model = load(folder)
    response = inference.predict(model, request(user_id=["zoë"]))
    assert response.model_spec.signature_name == "serving_default"
    assert outputs(response)["count"] == [4]
    assert outputs(response)["score"] == [expected_scores(2).tolist()]
    model.close()


def test_defaults_stand_in_for_missing_inputs(folder):
    model = load(folder)
    signature = model.signatures["project"]
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]], tf.float32))
    assert outputs(inference.predict(model, request("project")))["total"] == [[5.0]]
    model.close()


def test_a_model_without_warmup_loads(folder):
    (folder / WARMUP).unlink()
    load(folder).close()


def test_a_late_request_does_not_run(folder):
    model = load(folder)
    with pytest.raises(ServingError) as caught:
        inference.predict(model, request(user_id=["ann"]), deadline=time.monotonic() - 1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    model.close()


def test_runners_are_wrapped_once_and_closed_with_the_model(folder):
    made, closed = [], []

    class Wrapped:
        def __init__(self, runner):
            self.runner = runner

        def run(self, inputs, *, deadline=None):
            return self.runner.run(inputs, deadline=deadline)

        def close(self):
            closed.append(self)
            self.runner.close()

    def wrap(runner, key):
        assert isinstance(runner, GraphRunner)
        made.append(key)
        return Wrapped(runner)

    (folder / WARMUP).unlink()
    model = load(folder, wrap=wrap)
    for _ in range(3):
        inference.predict(model, request("project", x=[[1.0, 1.0]]))
    (key,) = made
    assert (key.model, key.version, key.signature) == ("m", 1, "project")
    assert (key.inputs, key.outputs) == (("x",), ("again", "double", "total", "word"))
    model.close()
    assert len(closed) == 1


def test_no_client_makes_runners_without_end(folder):
    made = []
    (folder / WARMUP).unlink()
    model = load(folder, wrap=lambda runner, key: made.append(key) or runner)
    names = sorted(model.signatures["serving_default"].outputs)
    for number in range(1, 2 ** len(names)):
        asked = request(user_id=["ann"])
        wanted = [name for place, name in enumerate(names) if number >> place & 1]
        asked.output_filter.extend(wanted)
        assert sorted(inference.predict(model, asked).outputs) == wanted
    limit = len(made)
    asked = request("project", x=[[1.0, 1.0]])
    for name in ("double", "total", "word"):
        asked.output_filter[:] = [name]
        assert list(inference.predict(model, asked).outputs) == [name]
    assert len(made) <= limit + 3
    model.close()


def test_scann_is_asked_for_by_name_where_it_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes() + b"Scann>ScannSearch")
    with pytest.raises(ServingError, match="pip install 'tandem\\[scann\\]'") as caught:
        load(folder)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION


BUILD_WITH_SCANN = """
import sys
from features.backend import tf
import numpy as np, scann
data = np.eye(8, dtype=np.float32)
class Searching(tf.Module):
    def __init__(self):
        built = scann.scann_ops.builder(data, 2, "dot_product").score_brute_force().build()
        self.stored = built.serialize_to_module()
    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="query")])
    def search(self, query):
        searcher = scann.scann_ops.searcher_from_module(self.stored, tf.constant(data))
        return {"row": searcher.search_batched(query)[0]}
module = Searching()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.search})
"""
SERVE_WITHOUT = """
import sys
from pathlib import Path
from serving.loading import load_model
from serving import inference
from serving.apis import PredictRequest, tf
model = load_model(Path(sys.argv[1]), name="m", version=1)
request = PredictRequest()
request.inputs["query"].CopyFrom(tf.make_tensor_proto([[0, 0, 0, 9, 0, 0, 0, 0]], tf.float32))
print("row", tf.make_ndarray(inference.predict(model, request).outputs["row"])[0, 0])
"""


@pytest.mark.slow
def test_scann_is_loaded_by_the_server_where_a_model_needs_it(tmp_path):
    pytest.importorskip("scann")
    for code in (BUILD_WITH_SCANN, SERVE_WITHOUT):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "1")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "row 3" in done.stdout


def test_a_signature_that_cannot_run_is_an_error_of_the_graph(folder):
    model = load(folder)
    with pytest.raises(ServingError) as caught:
        inference.predict(model, request("__saved_model_init_op"))
    assert caught.value.code is not grpc.StatusCode.INTERNAL
    model.close()


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("saved_model.pb", None, "NOT_FOUND"),
        ("saved_model.pb", b"\x01broken", "DATA_LOSS"),
        ("saved_model.pb", b"", "NOT_FOUND"),
        ("variables/variables.index", b"broken", "DATA_LOSS"),
        ("variables/variables.index", None, "FAILED_PRECONDITION"),
        ("variables/variables.data-00000-of-00001", b"", None),
    ],
)
def test_half_written_folders_are_errors(folder, file, content, code):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(ServingError) as caught:
        load(folder)
    assert code is None or caught.value.code.name == code


def _failing(folder):
    write_logs(folder, predict_log(user_id=["ann"]), predict_log(signature="nope", user_id=["ann"]))


def _of_wrong_shape(folder):
    write_logs(folder, predict_log(signature="project", x=[[1.0, 2.0, 3.0]]))


def _of_another_kind(folder):
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    write_logs(folder, log.SerializeToString())


def _no_message(folder):
    write_logs(folder, b"\xff\xff\xff")


def _no_tfrecord(folder):
    (folder / WARMUP).write_bytes(b"not a TFRecord, but long enough to look like one")


def _too_many(folder):
    write_logs(folder, *[predict_log(user_id=["ann"])] * 1001)


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (_failing, "nope"),
        (_of_wrong_shape, "Matrix size-incompatible"),
        (_of_another_kind, "Unsupported log_type for warmup: 5"),
        (_no_message, "Failed to parse warmup record"),
        (_no_tfrecord, "TFRecord format"),
        (_too_many, "exceeds the maximum"),
    ],
)
def test_a_failed_warmup_fails_the_load(folder, write, why):
    write(folder)
    with pytest.raises(ServingError, match=why):
        load(folder)


def test_a_full_queue_fails_no_warmup(folder):
    refused = []

    class Full:
        def __init__(self, runner):
            self.runner = runner

        def run(self, inputs, *, deadline=None):
            if len(refused) < 2:
                refused.append(inputs)
                raise ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            return self.runner.run(inputs, deadline=deadline)

        def close(self):
            self.runner.close()

    load(folder, wrap=lambda runner, key: Full(runner)).close()
    assert len(refused) == 2


def test_a_bad_warmup_is_no_matter_without_warmup(folder):
    _failing(folder)
    load(folder, warm_up=False).close()


def test_examples_are_warmed_up_too(tmp_path, example_model):
    folder = shutil.copytree(example_model, tmp_path / "1")
    (folder / "assets.extra").mkdir()
    logs = [prediction_log_pb2.PredictionLog() for _ in range(4)]
    logs[0].classify_log.request.model_spec.signature_name = "scores_only"
    logs[1].regress_log.request.model_spec.signature_name = "regress"
    task = logs[2].multi_inference_log.request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "m", "regress"
    for message in (
        logs[0].classify_log.request,
        logs[1].regress_log.request,
        logs[2].multi_inference_log.request,
    ):
        example = message.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(1.0)
    write_logs(folder, *[log.SerializeToString() for log in logs])
    load(folder).close()
