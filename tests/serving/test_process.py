"""The server as a process: flags, logs, draining, exit status."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from features.backend import tf

pytestmark = pytest.mark.slow
TANDEM = str(Path(sys.executable).with_name("tandem"))


@pytest.fixture
def start(tmp_path):
    """Start `tandem serve` with arguments; gives the process and its address."""
    processes = []

    def start(*arguments):
        log = (tmp_path / "stderr").open("wb")
        process = subprocess.Popen(
            [TANDEM, "serve", *map(str, arguments)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        processes.append(process)
        for line in process.stdout:
            if line.startswith("serving on "):
                return process, line.removeprefix("serving on ").split(";")[0]
        raise AssertionError((tmp_path / "stderr").read_text())

    yield start
    for process in processes:
        process.kill()
        process.wait()


def request(*users):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "recommender"
    message.inputs["user_id"].CopyFrom(tf.make_tensor_proto(list(users)))
    return message


def test_sigterm_answers_what_is_under_way_and_ends_with_zero(start, bundle, tmp_path):
    batching = tmp_path / "batching.config"
    # Two requests can only be answered together, or after three seconds.
    batching.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 3000000 } allowed_batch_sizes: 8"
    )
    process, address = start(
        bundle, "--port=0", "--rest-port=0", "--enable_batching",
        f"--batching_parameters_file={batching}", "--enable_model_warmup=false",
    )  # fmt: skip
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(2) as pool:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answers = [
            pool.submit(stub.Predict, request(user), timeout=30) for user in ("ann", "secret-bob")
        ]
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        items = [answer.result().outputs["item_id"].string_val[0] for answer in answers]
    assert items == [b"ann/0", b"secret-bob/0"]
    assert process.wait(30) == 0
    assert process.stdout.read().splitlines()[-1] == "stopped"
    log = (tmp_path / "stderr").read_text()
    # TensorFlow's C++ writes a remark of its own before anything can stop it.
    events = [json.loads(line)["event"] for line in log.splitlines() if line[0] == "{"]
    assert {"serving", "draining", "stopped"} <= set(events)
    assert "secret" not in log


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must match max_batch_size"),
        ("max_batch_size: huge", "BatchingParameters"),
    ],
)
def test_a_bad_config_is_one_line_and_no_zero(bundle, tmp_path, text, says):
    file = tmp_path / "batching.config"
    file.write_text(text)
    flags = ["--port=0", "--enable_batching", f"--batching_parameters_file={file}"]
    ended = subprocess.run(
        [TANDEM, "serve", bundle, *flags], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert says in ended.stderr and ended.stderr.count("\n") == 1
