"""The client against the embedded server, and against none."""

import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest

from interactions.errors import UserError
from serving import messages
from serving.client import RecommenderClient, RequestError
from serving.server import serve


@pytest.fixture(scope="module")
def client(server):
    with RecommenderClient(server.address) as client:
        yield client


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_recommendations_are_typed_and_in_order(client):
    bob, nobody = client.recommend(["bob", "nobody"], k=3)
    assert bob.user_id == "bob"
    assert [item.item_id for item in bob.items] == ["bob/0", "bob/1", "bob/2"]
    assert [item.score for item in bob.items] == [5.0, 4.0, 3.0]
    assert bob.items[0].retrieval_score == 2.5
    assert dict(bob.items[0].tasks) == {"rating": 15.0, "purchase": 25.0}
    assert [item.item_id for item in nobody.items] == ["nobody/0", "nobody/1"]


def test_ids_beyond_ascii_and_no_users(client):
    assert client.recommend(["zoë"], k=1)[0].items[0].item_id == "zoë/0"
    assert client.recommend([], k=3) == []


def test_k_above_max_k_names_both(client):
    with pytest.raises(UserError, match=r"k=5 .*max_k=4"):
        client.recommend(["ann"], k=5)


@pytest.mark.parametrize(("users", "k"), [(["ann"], 0), (["ann"], -1), ("ann", 2)])
def test_senseless_requests_are_refused(client, users, k):
    with pytest.raises(UserError):
        client.recommend(users, k=k)


def test_predict_any_signature(client):
    answer = client.predict("recommender", {"x": np.ones((2, 2), np.float32)}, "project")
    assert (answer.model, answer.version, answer.signature) == ("recommender", 3, "project")
    assert answer.outputs["double"].tolist() == [[6.0], [6.0]]


def test_predict_names_an_input_that_is_no_tensor(client):
    with pytest.raises(UserError, match="'x'"):
        client.predict("recommender", {"x": [[1.0], [1.0, 2.0]]}, "project")


def test_refusals_keep_the_servers_code_and_words(client):
    with pytest.raises(RequestError, match=r"Latest\(nope\)") as caught:
        client.predict("nope", {"user_id": ["ann"]})
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(RequestError) as caught:
        client.model_status(version=8)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_status_and_metadata(client):
    (status,) = client.model_status()
    assert (status.version, status.state, status.error) == (3, "AVAILABLE", "")
    metadata = client.model_metadata()
    assert metadata.version == 3
    signature = metadata.signatures["serving_default"]
    assert signature.inputs["user_id"].dtype == "DT_STRING"
    assert signature.inputs["user_id"].shape == (None,)
    assert signature.outputs["score"].shape == (None, 4)


def test_another_kind_of_model_is_named():
    with (
        answering(lambda request, context: messages.PredictResponse()) as address,
        RecommenderClient(address) as client,
        pytest.raises(UserError, match="item_id"),
    ):
        client.recommend(["ann"], k=1)


def test_no_server_is_one_line_with_address_and_remedy():
    address = f"127.0.0.1:{free_port()}"
    with RecommenderClient(address, timeout=1.0) as client, pytest.raises(UserError) as caught:
        client.recommend(["ann"], k=1)
    assert address in str(caught.value)
    assert "tandem serve" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost", "", "host:port", "http://x", "a b:80"])
def test_a_malformed_address_is_refused(address):
    with pytest.raises(UserError, match="HOST:PORT"):
        RecommenderClient(address)


class answering:
    """A server that answers Predict with a function, at the address that `with` gives."""

    def __init__(self, answer):
        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=messages.PredictRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        service = "tensorflow.serving.PredictionService"
        handlers = grpc.method_handlers_generic_handler(service, {"Predict": handler})
        self.server.add_generic_rpc_handlers((handlers,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self.server.start()
        return f"127.0.0.1:{self.port}"

    def __exit__(self, *_):
        self.server.stop(0)


def failing_with(code, *, times):
    calls = []

    def answer(request, context):
        calls.append(request)
        if len(calls) <= times:
            context.abort(code, "not now")
        return messages.PredictResponse(model_spec=messages.ModelSpec(name="m"))

    return answer, calls


def test_unavailable_is_tried_again():
    answer, calls = failing_with(grpc.StatusCode.UNAVAILABLE, times=2)
    with answering(answer) as address, RecommenderClient(address) as client:
        assert client.predict("m", {"x": [1.0]}).model == "m"
    assert len(calls) == 3


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"])
def test_nothing_else_is_tried_again(code):
    answer, calls = failing_with(grpc.StatusCode[code], times=9)
    with (
        answering(answer) as address,
        RecommenderClient(address) as client,
        pytest.raises((RequestError, grpc.RpcError)),
    ):
        client.predict("m", {"x": [1.0]})
    assert len(calls) == 1


def test_tries_end_with_the_retries_and_with_the_deadline():
    answer, calls = failing_with(grpc.StatusCode.UNAVAILABLE, times=99)
    with answering(answer) as address:
        with RecommenderClient(address, retries=1) as client, pytest.raises(RequestError):
            client.predict("m", {"x": [1.0]})
        assert len(calls) == 2
        begin = time.monotonic()
        hurried = RecommenderClient(address, timeout=0.5, retries=50)
        with hurried as client, pytest.raises(RequestError):
            client.predict("m", {"x": [1.0]})
        assert time.monotonic() - begin < 5


def test_a_slow_server_meets_the_deadline():
    release = threading.Event()

    def slow(request, context):
        release.wait(10)
        return messages.PredictResponse()

    with answering(slow) as address, RecommenderClient(address, timeout=0.2) as client:
        with pytest.raises(RequestError, match=r"0\.2 seconds") as caught:
            client.predict("m", {"x": [1.0]})
        release.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_server_that_starts_a_moment_later_is_reached(bundle):
    port = free_port()
    got = []

    def ask():
        with RecommenderClient(f"127.0.0.1:{port}", timeout=20.0, retries=50) as client:
            got.extend(client.recommend(["ann"], k=1))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    with serve(bundle, grpc_port=port):
        asking.join(20)
    assert [item.item_id for item in got[0].items] == ["ann/0"]
