"""The HTTP door: what lies between the wire and `RestApi`."""

import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from features.backend import tf
from interactions.errors import UserError
from serving.apis import PredictResponse
from serving.errors import not_found
from serving.monitoring import Monitor
from serving.rest import RestOptions, RestServer
from serving.rest_api import RestApi

PREDICT = "/v1/models/echo:predict"


class Echo:
    """Answers predictions with their inputs, once it is let."""

    def __init__(self):
        self.let = threading.Event()
        self.let.set()
        self.running = 0
        self.most_running = 0
        self.lock = threading.Lock()

    def signatures(self, spec):
        if spec.name != "echo":
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        signature = tf.compat.v1.MetaGraphDef().signature_def["a"]
        signature.inputs["x"].dtype = tf.int32.as_datatype_enum
        return {"serving_default": signature}

    def predict(self, request, *, deadline=None):
        assert deadline is not None
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.let.wait(10)
        with self.lock:
            self.running -= 1
        response = PredictResponse()
        response.outputs["x"].CopyFrom(request.inputs["x"])
        return response


@pytest.fixture
def start():
    running = []

    def go(services: Any = None, monitor=None, **options):
        echo: Any = services or Echo()
        api = RestApi(echo)
        running.append(RestServer(api, RestOptions(port=0, **options), monitor=monitor))
        return running[-1]

    yield go
    for server in running:
        server.stop(grace=1.0)


@pytest.fixture
def server(start):
    return start()


def ask(
    server: RestServer,
    method: str = "POST",
    path: str = PREDICT,
    body: bytes | None = b'{"instances": [1, 2]}',
    headers: dict[str, str] | None = None,
):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_a_prediction(server):
    answer, body = ask(server)
    assert (answer.status, json.loads(body)) == (200, {"predictions": [1, 2]})
    assert answer.headers["Content-Type"] == "application/json"
    assert server.address == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
def test_any_content_type(server, kind):
    assert ask(server, headers={"Content-Type": kind})[0].status == 200


def test_gzip(server):
    headers = {"Content-Encoding": "gzip"}
    packed = gzip.compress(b'{"instances": [3]}')
    assert json.loads(ask(server, body=packed, headers=headers)[1]) == {"predictions": [3]}
    for damaged in (b"not gzip", packed[:-9], b""):
        answer, body = ask(server, body=damaged, headers=headers)
        assert answer.status == 400
        assert "The document is empty" in json.loads(body)["error"]


def test_bodies_beyond_the_limit(start):
    server = start(most_body_bytes=1000)
    bomb = gzip.compress(b" " * 10_000_000)
    large = b'{"instances": [' + b"1," * 1000 + b"1]}"
    for body, headers in ((large, {}), (bomb, {"Content-Encoding": "gzip"})):
        answer, text = ask(server, body=body, headers=headers)
        assert answer.status == 413
        assert "larger than 1000 bytes" in json.loads(text)["error"]
    assert ask(server)[0].status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("POST", "/v2/models/echo:predict", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("GET", "/v1/nothing", 400),
        ("DELETE", "/v1/models/echo", 400),
        ("OPTIONS", PREDICT, 400),
        ("GET", "/monitoring/prometheus/metrics", 404),
        ("POST", "/v1/models/%ff%00:predict", 404),
    ],
)
def test_refusals_are_json(server, method, path, status):
    answer, body = ask(server, method=method, path=path)
    assert answer.status == status
    assert list(json.loads(body)) == ["error"]


def test_head_has_no_body(server):
    answer, body = ask(server, method="HEAD", path="/v1/models/echo", body=None)
    assert (answer.status, body) == (400, b"")


def test_cors_by_option(start):
    server = start(cors=True)
    answer, body = ask(server, method="OPTIONS")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert ask(server)[0].headers["Access-Control-Allow-Methods"] == "POST, GET"


def test_what_is_no_http_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b" 400 " in raw.recv(1000)
    assert ask(server)[0].status == 200


def test_expect_continue(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n"
        raw.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(b'{"instances": [5]}')
        assert b"200 OK" in raw.recv(1000)


def test_a_connection_is_kept(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for number in range(5):
        connection.request("POST", PREDICT, json.dumps({"inputs": number}))
        assert json.loads(connection.getresponse().read()) == {"outputs": number}
    connection.close()


def test_one_request_too_many_is_refused_at_once(start):
    echo = Echo()
    echo.let.clear()
    server = start(echo, threads=2, most_waiting=3)
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, server) for _ in range(5)]
        while server._underway < 5:
            time.sleep(0.01)
        began = time.monotonic()
        answer, body = ask(server)
        assert time.monotonic() - began < 2
        assert answer.status == 429
        assert "waiting" in json.loads(body)["error"]
        echo.let.set()
        assert [each.result()[0].status for each in asked] == [200] * 5
    assert echo.most_running == 2
    assert ask(server)[0].status == 200


def test_a_request_that_waited_past_its_deadline_is_not_run(start):
    echo = Echo()
    echo.let.clear()
    server = start(echo, threads=1, timeout_seconds=0.2)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, server) for _ in range(2)]
        while server._underway < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        echo.let.set()
        assert sorted(each.result()[0].status for each in asked) == [200, 504]
    assert echo.most_running == 1


def test_stop_waits_for_what_is_under_way(start):
    echo = Echo()
    echo.let.clear()
    server = start(echo)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(ask, server)
        while not echo.running:
            time.sleep(0.01)
        stopped = pool.submit(server.stop, 10.0)
        time.sleep(0.1)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        assert not stopped.done()
        echo.let.set()
        assert asked.result()[0].status == 200
        stopped.result(5)


def test_a_port_that_is_taken(server):
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{server.port} for REST .*--rest_api_port"):
        RestServer(server._api, RestOptions(port=server.port))


def test_metrics_at_their_path(start):
    server = start(monitor=Monitor(), metrics_path="/metrics")
    ask(server)
    ask(server, path="/v1/models/nobody:predict")
    ask(server, method="GET", path="/v1/nothing")
    answer, body = ask(server, method="GET", path="/metrics", body=None)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    page = body.decode()
    assert ':request_count{model_name="echo",status="OK"} 1\n' in page
    assert ':request_count{model_name="nobody",status="NOT_FOUND"} 1\n' in page
    assert 'API="predict",entrypoint="REST",le="+Inf"} 1\n' in page
    assert page.count(":tensorflow:serving:request_count{") == 2
