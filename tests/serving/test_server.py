"""The embedded server as the official stubs see it."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from features.backend import tf
from interactions.errors import UserError
from serving.server import serve


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model_service(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(name="recommender", signature="", version=None, label="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for key, values in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
    return request


def refused(method, request):
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=10)
    return caught.value


def test_official_stubs_get_recommendations(prediction, expected_scores):
    response = prediction.Predict(predict_request(user_id=["bob", "nobody"]), timeout=10)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    assert outputs["item_id"].tolist() == [
        [b"bob/0", b"bob/1", b"bob/2", b"bob/3"],
        [b"nobody/0", b"nobody/1", b"nobody/2", b"nobody/3"],
    ]
    np.testing.assert_array_equal(outputs["score"], [expected_scores(1), expected_scores(-1)])
    assert outputs["count"].tolist() == [4, 2]
    assert response.model_spec.name == "recommender"
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == "serving_default"


def test_answers_use_the_typed_fields(prediction):
    response = prediction.Predict(predict_request(user_id=["ann"]), timeout=10)
    assert len(response.outputs["score"].float_val) == 4
    assert not response.outputs["score"].tensor_content


def test_output_filter_and_outputs_that_are_one_tensor(prediction):
    request = predict_request(signature="project", x=np.ones((1, 2), np.float32))
    response = prediction.Predict(request, timeout=10)
    values = {name: tf.make_ndarray(tensor).item() for name, tensor in response.outputs.items()}
    assert values == {"total": 3.0, "again": 3.0, "double": 6.0, "word": b"end\0"}
    request.output_filter.extend(["double", "again"])
    response = prediction.Predict(request, timeout=10)
    assert set(response.outputs) == {"double", "again"}


def test_short_typed_fields_and_no_rows(prediction):
    request = predict_request(signature="project", x=np.ones((3, 2), np.float32))
    request.inputs["x"].tensor_content = b""
    request.inputs["x"].float_val.append(2.0)
    response = prediction.Predict(request, timeout=10)
    assert tf.make_ndarray(response.outputs["total"]).tolist() == [[6.0]] * 3
    empty = prediction.Predict(
        predict_request(user_id=np.zeros((0,), dtype=object).astype("S")), timeout=10
    )
    assert tf.make_ndarray(empty.outputs["item_id"]).shape == (0, 4)


def _filtered(*names):
    request = predict_request(user_id=["ann"])
    request.output_filter.extend(names)
    return request


def _broken_tensor():
    request = predict_request(user_id=["ann"])
    request.inputs["user_id"].tensor_shape.dim[0].size = -5
    return request


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (predict_request(name="", user_id=["a"]), "INVALID_ARGUMENT", "no name specified"),
        (
            predict_request(name="x", user_id=["a"]),
            "NOT_FOUND",
            "Servable not found for request: Latest(x)",
        ),
        (
            predict_request(version=9, user_id=["a"]),
            "NOT_FOUND",
            "Servable not found for request: Specific(recommender, 9)",
        ),
        (
            predict_request(label="canary", user_id=["a"]),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: canary",
        ),
        (
            predict_request(signature="nope", user_id=["a"]),
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
        ),
        (
            predict_request(),
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({user_id}). "
            "Sent extra: {}. Missing but required: {user_id}.",
        ),
        (
            predict_request(user_id=["a"], k=[1]),
            "INVALID_ARGUMENT",
            "Sent extra: {k}. Missing but required: {}.",
        ),
        (
            predict_request(user=["a"]),
            "INVALID_ARGUMENT",
            "Sent extra: {user}. Missing but required: {user_id}.",
        ),
        (
            predict_request(user_id=[1.0]),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be string but float is provided",
        ),
        (
            predict_request(signature="project", x=np.ones((1, 2), np.float64)),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but double is provided",
        ),
        (
            predict_request(signature="project", x=np.ones((1, 3), np.float32)),
            "INVALID_ARGUMENT",
            "Matrix size-incompatible",
        ),
        (
            predict_request(signature="project", x=np.float32(1)),
            "INVALID_ARGUMENT",
            "ndims must be",
        ),
        (_broken_tensor(), "INVALID_ARGUMENT", "tensor parsing error: user_id"),
        (_filtered("nope"), "INVALID_ARGUMENT", "output tensor alias not found in signature: nope"),
        (_filtered("score", "score"), "INVALID_ARGUMENT", "duplicate output tensor alias: score"),
    ],
)
def test_refusals_of_predict(prediction, request_, code, text):
    error = refused(prediction.Predict, request_)
    assert error.code().name == code
    assert text in error.details()


def test_long_error_texts_are_cut(prediction):
    error = refused(prediction.Predict, predict_request(name="m" * 5000, user_id=["a"]))
    assert error.details().endswith("...TRUNCATED")
    assert len(error.details()) == 1024 + len("...TRUNCATED")


def test_methods_that_are_not_there_are_unimplemented(channel):
    method = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_metadata_holds_all_signatures(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "recommender"
    response = prediction.GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "project", "__saved_model_init_op"} <= set(signatures.signature_def)
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == ""


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("recommender", [], "INVALID_ARGUMENT"),
        ("recommender", ["graph"], "INVALID_ARGUMENT"),
        ("", ["signature_def"], "INVALID_ARGUMENT"),
        ("nope", ["signature_def"], "NOT_FOUND"),
    ],
)
def test_refusals_of_metadata(prediction, name, fields, code):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    assert refused(prediction.GetModelMetadata, request).code().name == code


def test_status(model_service):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "recommender"
    (status,) = model_service.GetModelStatus(request, timeout=10).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert (status.version, status.state) == (3, available)
    assert status.HasField("status")
    assert status.status.error_code == 0
    request.model_spec.version.value = 4
    error = refused(model_service.GetModelStatus, request)
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == "Could not find version 4 of model recommender"


def test_threads_get_their_own_answers(prediction):
    def ask(number):
        users = [f"user{number}-{row}" for row in range(1 + number % 5)]
        response = prediction.Predict(predict_request(user_id=users), timeout=20)
        items = tf.make_ndarray(response.outputs["item_id"])
        return [item.decode() for item in items[:, 0]] == [f"{user}/0" for user in users]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


def test_requests_above_four_megabytes_are_answered(prediction):
    request = predict_request(user_id=["u" * 500] * 10_000)
    request.output_filter.append("count")
    response = prediction.Predict(request, timeout=30)
    assert len(response.outputs["count"].int_val) == 10_000


def test_stop_closes_the_port_and_ends_wait(bundle):
    running = serve(bundle, grpc_port=0)
    assert running.port > 0
    assert running.wait(timeout=0.05) is False
    running.stop(grace=0.5)
    assert running.wait(timeout=5) is True
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", running.port), timeout=2):
        pass


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_taken_port_is_named_with_a_remedy(bundle, server):
    with pytest.raises(UserError) as caught:
        serve(bundle, grpc_port=server.port)
    assert str(server.port) in one_line(caught)
    assert "--grpc-port" in one_line(caught)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(UserError) as caught:
        serve(tmp_path, grpc_port=0)
    assert one_line(caught).startswith(f"not a bundle: {tmp_path}")
    assert "tandem export" in one_line(caught)


def _no_version(bundle):
    (bundle / "recommender" / "00000003").rename(bundle / "recommender" / "3.tmp")


def _corrupt_graph(bundle):
    (bundle / "recommender/00000003/saved_model.pb").write_bytes(b"\x01broken")


def _no_graph(bundle):
    (bundle / "recommender/00000003/saved_model.pb").unlink()


def _corrupt_variables(bundle):
    (bundle / "recommender/00000003/variables/variables.index").write_bytes(b"broken")


def _corrupt_manifest(bundle):
    (bundle / "manifest.json").write_text("{")


def _no_config(bundle):
    (bundle / "models.config").unlink()


@pytest.mark.parametrize(
    "break_it",
    [_no_version, _corrupt_graph, _no_graph, _corrupt_variables, _corrupt_manifest, _no_config],
)
def test_a_broken_bundle_is_refused_in_one_line(bundle, break_it):
    break_it(bundle)
    with pytest.raises(UserError) as caught:
        serve(bundle, grpc_port=0)
    assert str(bundle) in one_line(caught)
    assert "export the bundle again" in one_line(caught)
