"""Loading a SavedModel: its assets and variables, its warm-up, and what stops it."""

import shutil

import pytest
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from features.backend import tf
from serving.errors import ServingError
from serving.models import LoadedModel
from serving.tensors import to_tensor

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


def test_assets_and_variables_are_there(folder, expected_scores):
    model = LoadedModel(folder)
    answer = model.predict({"user_id": to_tensor(["zoë"])})
    assert answer.signature == "serving_default"
    assert answer.outputs["count"].tolist() == [4]
    assert answer.outputs["score"].tolist() == [expected_scores(2).tolist()]
    model.close()


def test_defaults_stand_in_for_missing_inputs(folder):
    model = LoadedModel(folder)
    signature = model.signatures["project"]
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]], tf.float32))
    assert model.predict({}, signature_name="project").outputs["total"].tolist() == [[5.0]]
    model.close()


def test_a_model_without_warmup_loads(folder):
    (folder / WARMUP).unlink()
    LoadedModel(folder).close()


def _failing(folder):
    write_logs(folder, predict_log(user_id=["ann"]), predict_log(signature="nope", user_id=["ann"]))


def _of_wrong_shape(folder):
    write_logs(folder, predict_log(signature="project", x=[[1.0, 2.0, 3.0]]))


def _of_another_kind(folder):
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.SetInParent()
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
        (_of_another_kind, "classify_log"),
        (_no_message, "Failed to parse warmup record"),
        (_no_tfrecord, "TFRecord format"),
        (_too_many, "exceeds the maximum"),
    ],
)
def test_a_failed_warmup_fails_the_load(folder, write, why):
    write(folder)
    with pytest.raises(ServingError, match=why):
        LoadedModel(folder)
