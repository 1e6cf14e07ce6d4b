"""Throw mutated requests at the REST parser and the TensorProto reader.

Valid bodies, paths and Predict messages are cut, spliced and overwritten at random, and answered by
the embedded server's own code over a small SavedModel. Every answer must be one that TF Serving
gives to a bad request: a status of 500, INTERNAL, UNKNOWN, an exception, or an answer that is no
JSON is a failure; the input is kept, and the exit status is 1.

    python -m benchmarks.serving.fuzz --inputs 1000000 --seed 1
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from features.backend import tf
from serving.apis import PredictRequest
from serving.errors import ServingError
from serving.loading import load_model
from serving.models import LoadedModel
from serving.rest_api import RestApi
from serving.rollout import Rollout
from serving.services import Services
from serving.table import ServableTable

_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
_FAULT_STATUSES = (500, 502, 503)
_BODIES = (
    b'{"instances": [[1.0, 2.5], [-3, 4e-2]]}',
    b'{"signature_name": "serving_default", "inputs": {"x": [[NaN, Infinity]]}}',
    b'{"signature_name": "words", "instances": [{"b64": "aGVsbG8="}, "zo\\u00eb\\ud83d\\ude00"]}',
    b'{"signature_name": "mixed", "instances": [{"id": 9223372036854775807, "flag": true}]}',
    b'{"signature_name": "mixed", "inputs": {"id": [1, -2], "flag": [false, true]}}',
    b'{"context": {"q": [1]}, "examples": [{"x": [1.5, 2]}, {"x": "a"}]}',
)
_TARGETS = (
    ("POST", "/v1/models/m:predict"),
    ("POST", "/v1/models/m/versions/1:predict"),
    ("POST", "/v1/models/m:classify"),
    ("POST", "/v1/models/m:regress"),
    ("GET", "/v1/models/m"),
    ("GET", "/v1/models/m/metadata"),
    ("GET", "/v1/models/m/labels/a%20b"),
)
_TOKENS = (
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"null", b"true", b"NaN",
    b"-Infinity", b"1e999", b"1e-999", b"-0", b"0" * 40, b"9" * 25, b"1.", b"\0", b"\xff", b" ",
    b"\xef\xbb\xbf", b'"b64"', b'"x"', b"[" * 70, b'{"a":' * 9, b"1e38", b"16777217", b"2147483648",
)  # fmt: skip


@dataclass
class Report:
    """What came of the inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: str, *, failed: bool, sent: object) -> None:
        """Count an outcome; a failure keeps what was sent."""
        self.outcomes[outcome] += 1
        if failed and len(self.failures) < 20:
            self.failures.append(f"{outcome}: {sent!r}")


class Echo(tf.Module):
    """Gives back what it gets, in several types."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def numbers(self, x):
        """Return x [n, 2] float32 doubled."""
        return {"y": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def words(self, words):
        """Return words [n] string."""
        return {"same": words, "as_bytes": tf.identity(words)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int64, name="id"), tf.TensorSpec([None], tf.bool, name="flag"),
        ]
    )  # fmt: skip
    def mixed(self, id, flag):
        """Return id [n] int64 and flag [n] bool."""
        return {"id": id, "flag": flag, "both": tf.where(flag, id, 0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def scores(self, inputs):
        """Return the lengths of Examples inputs [n] string as scores [n, 1] float32."""
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)[:, None]}


@contextmanager
def serving_echo(folder: Path) -> Iterator[Services]:
    """Serve Echo as version 1 of the model m."""
    model = Echo()
    signatures = {
        "serving_default": model.numbers,
        "words": model.words,
        "mixed": model.mixed,
        "scores": model.scores,
    }
    tf.saved_model.save(model, str(folder / "1"), signatures=signatures)
    table = ServableTable()

    def load(name: str = "m", version: int = 1, path: Path = folder / "1") -> LoadedModel:
        return load_model(path, name=name, version=version)

    table.load("m", version=1, path=folder / "1", load=load)
    try:
        yield Services(table, Rollout(table, load))
    finally:
        table.close()


def mutate(data: bytes, others: Sequence[bytes], *, rng: random.Random) -> bytes:
    """Return `data` after one to six random changes; `others` lend pieces."""
    for _ in range(rng.randint(1, 6)):
        at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        end = min(end, at + 12)
        match rng.randrange(6):
            case 0:
                data = data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:end] + data[at:]
            case 3:
                data = data[:at] + rng.choice(_TOKENS) + data[at:]
            case 4:
                other = rng.choice(others)
                start = rng.randint(0, len(other))
                data = data[:at] + other[start : start + 20] + data[at:]
            case 5:
                data = data[:at]
    return data


def random_value(rng: random.Random, *, depth: int = 0) -> object:
    """Return a JSON value that looks like a tensor's, more or less."""
    if depth < 4 and rng.random() < 0.6 - 0.1 * depth:
        size = rng.choice((0, 1, 2, 2, 2, 3))
        if rng.random() < 0.5:
            return [random_value(rng, depth=depth + 1)] * size
        return [random_value(rng, depth=depth + 1) for _ in range(size)]
    if depth < 4 and rng.random() < 0.15:
        names = rng.sample(("x", "words", "id", "flag", "b64", "inputs", "q"), rng.randint(0, 3))
        return {name: random_value(rng, depth=depth + 1) for name in names}
    number = rng.choice((1, 1.5, -2, 1 << rng.randrange(70), -1e-9, 1e38, 1e39, float("nan")))
    return rng.choice((number, number, number, "a", "YQ==", "zo\u00eb", True, None))


def random_body(rng: random.Random) -> bytes:
    """Return a body of the right form with values of a wrong one."""
    key = rng.choice(("instances", "inputs", "examples", "context"))
    body = {key: random_value(rng)}
    if rng.random() < 0.5:
        body["examples"] = [random_value(rng)]
    if rng.random() < 0.7:
        names = ("serving_default", "words", "mixed", "scores", "none", 5)
        body["signature_name"] = rng.choice(names)
    return json.dumps(body).encode()


def mutate_tensors(request: PredictRequest, *, rng: random.Random) -> None:
    """Change fields of a Predict message's tensors, so that it stays a protobuf."""
    for tensor in request.inputs.values():
        match rng.randrange(7):
            case 0:
                tensor.dtype = rng.choice((0, 1, 2, 3, 7, 8, 9, 10, 14, 19, 20, 21, 23, 101, 999))
            case 1:
                size = rng.choice((-1, 0, 1, 3, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)))
                rng.choice(tensor.tensor_shape.dim or [tensor.tensor_shape.dim.add()]).size = size
            case 2:
                for _ in range(rng.choice((1, 63, 300))):
                    tensor.tensor_shape.dim.add().size = rng.choice((0, 1, 1, 2))
            case 3:
                tensor.tensor_content = rng.randbytes(rng.choice((1, 4, 8, 16, 17)))
            case 4:
                tensor.ClearField(rng.choice(("tensor_shape", "float_val", "tensor_content")))
            case 5:
                tensor.tensor_shape.unknown_rank = True
            case 6:
                tensor.string_val.append(rng.randbytes(3))
                tensor.float_val.append(1.5)
                tensor.int64_val.append(-1)


def fuzz_rest(api: RestApi, report: Report, *, rng: random.Random) -> None:
    """Send one mutated request over REST."""
    method, target = rng.choice(_TARGETS)
    body = random_body(rng)
    if rng.random() < 0.6:
        body = mutate(rng.choice((*_BODIES, body)), _BODIES, rng=rng)
    if rng.random() < 0.1:
        paths = [path.encode() for _, path in _TARGETS]
        target = mutate(target.encode(), paths, rng=rng).decode("utf-8", "surrogateescape")
    sent = (method, target, body)
    try:
        answer = api.answer(method, target, body)
        json.loads(answer.body.decode("utf-8", "surrogateescape"))
        report.add(f"REST {answer.status}", failed=answer.status in _FAULT_STATUSES, sent=sent)
    except Exception as error:
        report.add(f"REST {type(error).__name__}", failed=True, sent=sent)


def fuzz_tensor(
    services: Services, report: Report, *, messages: Sequence[bytes], rng: random.Random
) -> None:
    """Send one mutated Predict message."""
    sent = rng.choice(messages)
    if rng.random() < 0.3:
        sent = mutate(sent, messages, rng=rng)
    try:
        request = PredictRequest.FromString(sent)
    except DecodeError:
        report.add("message no protobuf", failed=False, sent=sent)
        return
    mutate_tensors(request, rng=rng)
    sent = request.SerializeToString()
    try:
        services.predict(request).SerializeToString()
        report.add("message OK", failed=False, sent=sent)
    except ServingError as error:
        report.add(f"message {error.code.name}", failed=error.code in _FAULTS, sent=sent)
    except Exception as error:
        report.add(f"message {type(error).__name__}", failed=True, sent=sent)


def predict_messages() -> list[bytes]:
    """Return valid Predict messages, with typed fields and with content."""
    arrays = {
        "serving_default": {"x": np.array([[1, 2], [3, 4]], np.float32)},
        "words": {"words": np.array([b"a", b"bc"], object)},
        "mixed": {"id": np.array([1, -2]), "flag": np.array([True, False])},
    }
    messages = []
    for signature, inputs in arrays.items():
        request = PredictRequest()
        request.model_spec.name = "m"
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        messages.append(request.SerializeToString(deterministic=True))
        request.inputs[next(iter(inputs))].tensor_shape.dim[0].size = 1 << 40
        messages.append(request.SerializeToString(deterministic=True))
    return messages


def fuzz(inputs: int, *, seed: int, say: Callable[[str], None]) -> Report:
    """Send `inputs` mutated requests, half of them over REST, and return what came of them."""
    rng = random.Random(seed)
    report = Report()
    messages = predict_messages()
    with tempfile.TemporaryDirectory() as folder, serving_echo(Path(folder)) as services:
        api = RestApi(services)
        began = time.monotonic()
        for number in range(1, inputs + 1):
            if number % 2:
                fuzz_rest(api, report, rng=rng)
            else:
                fuzz_tensor(services, report, messages=messages, rng=rng)
            if not number % 50_000:
                rate = number / (time.monotonic() - began)
                say(f"{number:,} inputs, {rate:,.0f} a second, {len(report.failures)} failures")
    return report


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = fuzz(arguments.inputs, seed=arguments.seed, say=functools.partial(print, flush=True))
    for outcome, count in sorted(report.outcomes.items()):
        print(f"{outcome:32} {count:>10,}")
    for failure in report.failures:
        print(f"FAILED {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
