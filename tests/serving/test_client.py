"""Both forms of the client against the embedded server, against a scripted one and against none."""

import asyncio
import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest

from interactions.errors import UserError
from serving import messages
from serving.async_client import AsyncRecommenderClient
from serving.client import (
    ModelChoice,
    PredictRequest,
    RecommenderClient,
    RequestError,
    ServerFault,
)
from serving.server import serve
from serving.tensors import to_tensor


class Awaited:
    """The asyncio client with every method waited for, so that one test tells of both forms."""

    def __init__(self, address, **options):
        self.runner = asyncio.Runner()
        self.client = AsyncRecommenderClient(address, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.runner.run(self.client.close())
        self.runner.close()

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *given, **named: self.runner.run(method(*given, **named))


@pytest.fixture(scope="module", params=[RecommenderClient, Awaited])
def connect(request):
    return request.param


@pytest.fixture(scope="module")
def client(server, connect):
    with connect(server.address) as client:
        yield client


ONE = PredictRequest("m", {"x": [1.0]})


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
    inputs = {"x": np.ones((2, 2), np.float32)}
    answer = client.predict(PredictRequest("recommender", inputs, "project"))
    assert (answer.model, answer.version, answer.signature) == ("recommender", 3, "project")
    assert answer.outputs["double"].tolist() == [[6.0], [6.0]]
    assert set(answer.outputs) == {"total", "again", "double", "word"}


def test_predict_a_version_and_some_outputs(client):
    inputs = {"x": np.ones((1, 2), np.float32)}
    model = ModelChoice("recommender", version=3)
    answer = client.predict(PredictRequest(model, inputs, "project", outputs=("total",)))
    assert {name: values.tolist() for name, values in answer.outputs.items()} == {"total": [[3.0]]}
    with pytest.raises(RequestError) as caught:
        client.predict(PredictRequest(ModelChoice("recommender", label="canary"), inputs))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_version_and_a_label_at_once_are_refused():
    with pytest.raises(UserError, match=r"version 3 .*'canary'"):
        ModelChoice("m", version=3, label="canary")


def test_predict_names_an_input_that_is_no_tensor(client):
    with pytest.raises(UserError, match="'x'"):
        client.predict(PredictRequest("recommender", {"x": [[1.0], [1.0, 2.0]]}, "project"))


def test_refusals_keep_the_servers_code_and_words(client):
    with pytest.raises(RequestError, match=r"Latest\(nope\)") as caught:
        client.predict(PredictRequest("nope", {"user_id": ["ann"]}))
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(RequestError) as caught:
        client.model_status(ModelChoice("recommender", version=8))
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


def test_another_kind_of_model_is_named(connect):
    with (
        answering(lambda request, context: messages.PredictResponse()) as address,
        connect(address) as client,
        pytest.raises(UserError, match="item_id"),
    ):
        client.recommend(["ann"], k=1)


def test_no_server_is_one_line_with_address_and_remedy(connect):
    address = f"127.0.0.1:{free_port()}"
    with connect(address, timeout=1.0) as client, pytest.raises(UserError) as caught:
        client.recommend(["ann"], k=1)
    assert address in str(caught.value)
    assert "tandem serve" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost", "", "host:port", "http://x", "a b:80"])
def test_a_malformed_address_is_refused(address, connect):
    with pytest.raises(UserError, match="HOST:PORT"):
        connect(address)


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


def test_unavailable_is_tried_again(connect):
    answer, calls = failing_with(grpc.StatusCode.UNAVAILABLE, times=2)
    with answering(answer) as address, connect(address) as client:
        assert client.predict(ONE).model == "m"
    assert len(calls) == 3


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"])
def test_nothing_else_is_tried_again(code, connect):
    answer, calls = failing_with(grpc.StatusCode[code], times=9)
    with (
        answering(answer) as address,
        connect(address) as client,
        pytest.raises((RequestError, ServerFault), match=code) as caught,
    ):
        client.predict(ONE)
    assert len(calls) == 1
    assert caught.value.code is grpc.StatusCode[code]
    # what the caller can mend, and nothing else, is the caller's error
    assert isinstance(caught.value, UserError) == (
        code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    )
    assert "\n" not in str(caught.value)


def test_tries_end_with_the_retries_and_with_the_deadline(connect):
    answer, calls = failing_with(grpc.StatusCode.UNAVAILABLE, times=99)
    with answering(answer) as address:
        with connect(address, retries=1) as client, pytest.raises(RequestError):
            client.predict(ONE)
        assert len(calls) == 2
        begin = time.monotonic()
        with connect(address, retries=50) as client, pytest.raises(RequestError):
            client.predict(ONE, timeout=0.5)
        assert time.monotonic() - begin < 5


def test_a_slow_server_meets_the_deadline(connect):
    release = threading.Event()

    def slow(request, context):
        release.wait(10)
        return messages.PredictResponse()

    with answering(slow) as address, connect(address, timeout=0.2) as client:
        with pytest.raises(RequestError, match="in time") as caught:
            client.predict(ONE)
        release.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_nothing_is_sent_when_no_time_is_left(connect):
    calls = []

    def quick(request, context):
        calls.append(request)
        return messages.PredictResponse()

    with answering(quick) as address, connect(address) as client:
        for _ in range(20):
            with pytest.raises(RequestError, match="in time"):
                client.predict(ONE, timeout=0.0)
        client.predict(ONE)
    assert len(calls) == 1


def test_a_server_that_starts_a_moment_later_is_reached(bundle, connect):
    port = free_port()
    got = []

    def ask():
        with connect(f"127.0.0.1:{port}", timeout=20.0, retries=50) as client:
            got.extend(client.recommend(["ann"], k=1))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    with serve(bundle, grpc_port=port):
        asking.join(20)
    assert [item.item_id for item in got[0].items] == ["ann/0"]


def listing(request, context):
    """Answer every user u with the items u/0 and u/1."""
    users = [user.decode() for user in request.inputs["user_id"].string_val]
    outputs = {
        "item_id": [[f"{user}/{rank}" for rank in range(2)] for user in users],
        "score": np.tile(np.float32([2, 1]), (len(users), 1)),
        "retrieval_score": np.zeros((len(users), 2), np.float32),
        "count": np.full(len(users), 2, np.int32),
    }
    response = messages.PredictResponse()
    for name, values in outputs.items():
        response.outputs[name].CopyFrom(to_tensor(values))
    return response


def test_many_users_are_split_and_joined_in_order(connect):
    sizes = []

    def answer(request, context):
        sizes.append(len(request.inputs["user_id"].string_val))
        return listing(request, context)

    users = [f"u{n}" for n in range(23)]
    with answering(answer) as address, connect(address, max_batch=10) as client:
        lists = client.recommend(users, k=1)
    assert sizes == [10, 10, 3]
    assert [one.user_id for one in lists] == users
    assert [one.items[0].item_id for one in lists] == [f"{user}/0" for user in users]


def test_the_timeout_holds_for_all_the_parts_together(connect):
    calls = []

    def slow(request, context):
        calls.append(request)
        time.sleep(0.15)
        return listing(request, context)

    users = [f"u{n}" for n in range(100)]
    with (
        answering(slow) as address,
        connect(address, max_batch=1) as client,
        pytest.raises(RequestError) as caught,
    ):
        client.recommend(users, k=1, timeout=0.5)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(calls) <= 4


def test_an_answer_that_is_no_tensor_is_the_servers_fault(connect):
    def answer(request, context):
        response = messages.PredictResponse()
        response.outputs["x"].dtype = 1
        response.outputs["x"].tensor_shape.dim.add().size = 1 << 40
        return response

    with (
        answering(answer) as address,
        connect(address) as client,
        pytest.raises(ServerFault, match="no tensor"),
    ):
        client.predict(ONE)


def test_a_batch_of_nobody_asks_nobody(connect):
    with connect(f"127.0.0.1:{free_port()}") as client:
        assert client.recommend([], k=1) == []
    with pytest.raises(UserError, match="max_batch is 0"):
        RecommenderClient("localhost:1", max_batch=0)


def test_one_connection_serves_many_calls(connect):
    peers = set()

    def answer(request, context):
        peers.add(context.peer())
        return listing(request, context)

    with answering(answer) as address, connect(address, max_batch=1) as client:
        for _ in range(3):
            client.recommend(["ann", "bob"], k=1)
    assert len(peers) == 1


def test_threads_share_a_client(server):
    with RecommenderClient(server.address) as client, futures.ThreadPoolExecutor(8) as pool:
        users = [f"user {n}" for n in range(40)]
        lists = pool.map(lambda user: client.recommend([user], k=1)[0], users)
        assert [one.items[0].item_id for one in lists] == [f"{user}/0" for user in users]


def test_calls_run_side_by_side_in_asyncio():
    together = threading.Barrier(2, timeout=5)

    def answer(request, context):
        together.wait()
        return listing(request, context)

    async def both(address):
        async with AsyncRecommenderClient(address) as client:
            return await asyncio.gather(
                client.recommend(["ann"], k=1), client.recommend(["bob"], k=1)
            )

    with answering(answer) as address:
        ann, bob = asyncio.run(both(address))
    assert (ann[0].user_id, bob[0].user_id) == ("ann", "bob")
