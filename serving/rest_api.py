"""TF Serving's REST API without the wire: a method, a path and a body in, a status and JSON out."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import grpc
from google.protobuf import json_format

from serving.apis import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    RegressionRequest,
    SignatureDefMap,
)
from serving.errors import ServingError, invalid_argument
from serving.json_document import Document, read_document
from serving.json_examples import classifications_text, fill_examples, regressions_text
from serving.json_reader import LARGEST_INT64
from serving.json_tensors import fill_inputs, outputs_text
from serving.json_writer import error_text

_LOG = logging.getLogger(__name__)
_DEFAULT_SIGNATURE = "serving_default"
_SIGNATURE_DEF = "signature_def"
# kPredictionApiRegex and kModelStatusApiRegex of model_servers/http_rest_api_util.cc; like RE2,
# they take any case, and a method or subresource in capitals is then no known one.
_FLAGS = re.IGNORECASE | re.ASCII | re.DOTALL
_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", _FLAGS
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", _FLAGS
)
_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""All other codes are 500 (ToHTTPStatusCode in model_servers/http_server.cc)."""


class Answering(Protocol):
    """What answers the messages that requests become: `serving.services.Services`."""

    def predict(self, request: Any, *, deadline: float | None = None) -> Any:
        """PredictRequest -> PredictResponse."""
        ...

    def classify(self, request: Any, *, deadline: float | None = None) -> Any:
        """ClassificationRequest -> ClassificationResponse."""
        ...

    def regress(self, request: Any, *, deadline: float | None = None) -> Any:
        """RegressionRequest -> RegressionResponse."""
        ...

    def signatures(self, spec: Any) -> Mapping[str, Any]:
        """ModelSpec -> SignatureDefs by name."""
        ...

    def get_model_metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse."""
        ...

    def get_model_status(self, request: Any) -> Any:
        """GetModelStatusRequest -> GetModelStatusResponse."""
        ...


@dataclass(frozen=True)
class RestAnswer:
    """What a request is answered with, and what the metrics say about it."""

    status: int
    """Of HTTP."""
    body: bytes
    """JSON."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    model: str = ""
    """Empty where the path names none."""
    method: str = ""
    """classify, regress or predict; empty for all others."""


@dataclass(frozen=True)
class _Path:
    """What the path of a request names."""

    model: str
    version: int | None
    label: str | None
    method: str
    """classify, regress, predict, status or metadata."""


class RestApi:
    """Answers requests as TF Serving's REST API does; safe to call from any thread."""

    def __init__(self, services: Answering) -> None:
        self._services = services
        self._methods = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }

    def answer(
        self, method: str, target: str, body: bytes = b"", *, deadline: float | None = None
    ) -> RestAnswer:
        """Return the answer to an HTTP method on `target`, the path with its query; never raises.

        `deadline` is in seconds of `time.monotonic`.
        """
        path: _Path | None = None
        try:
            path = _parse(method, target)
            text = self._answer(path, body, deadline=deadline)
            code = grpc.StatusCode.OK
        except ServingError as error:
            text, code = error_text(str(error)), error.code
        except Exception as error:
            # Its text may hold what was asked: the log gets it, the wire does not.
            _LOG.exception("a request failed")
            text = error_text(f"internal error: {type(error).__name__}")
            code = grpc.StatusCode.INTERNAL
        return RestAnswer(
            status=_HTTP_STATUS.get(code, 500),
            body=text.encode("utf-8", "surrogateescape"),
            code=code,
            model=path.model if path else "",
            method=path.method if path and path.method in self._methods else "",
        )

    def refuse(self, error: ServingError) -> RestAnswer:
        """Return the answer to a request that is not looked at, such as one too many."""
        body = error_text(str(error)).encode("utf-8", "surrogateescape")
        return RestAnswer(status=_HTTP_STATUS.get(error.code, 500), body=body, code=error.code)

    def _answer(self, path: _Path, body: bytes, *, deadline: float | None) -> str:
        if path.method == "metadata":
            return self._metadata(path)
        if path.method == "status":
            return self._status(path)
        return self._methods[path.method](path, body, deadline)

    def _predict(self, path: _Path, body: bytes, deadline: float | None) -> str:
        request = PredictRequest()
        document = self._start(request, path, body)
        types = self._input_types(request.model_spec, document.signature_name)
        request.model_spec.signature_name = document.signature_name
        layout = fill_inputs(request, document, types=types)
        response = self._services.predict(request, deadline=deadline)
        return outputs_text(response.outputs, layout=layout)

    def _classify(self, path: _Path, body: bytes, deadline: float | None) -> str:
        request = ClassificationRequest()
        self._fill_examples(request, path, body)
        return classifications_text(self._services.classify(request, deadline=deadline).result)

    def _regress(self, path: _Path, body: bytes, deadline: float | None) -> str:
        request = RegressionRequest()
        self._fill_examples(request, path, body)
        return regressions_text(self._services.regress(request, deadline=deadline).result)

    def _fill_examples(self, request: Any, path: _Path, body: bytes) -> None:
        document = self._start(request, path, body)
        # No signature has a name that is no UTF-8: it will not be found, as it should not.
        request.model_spec.signature_name = _as_unicode(
            document.signature_name.encode("utf-8", "surrogateescape")
        )
        fill_examples(request, document)

    def _start(self, request: Any, path: _Path, body: bytes) -> Document:
        _fill_spec(request.model_spec, path)
        return read_document(body)

    def _input_types(self, spec: Any, signature_name: str) -> Mapping[str, int]:
        """Return the DataTypes of a signature's inputs by name."""
        signatures = self._services.signatures(spec)
        name = signature_name or _DEFAULT_SIGNATURE
        if name not in signatures:
            raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
        inputs = signatures[name].inputs
        if not inputs:
            raise invalid_argument(
                f"Failed to get input map for signature: {signature_name or 'DEFAULT'}"
            )
        return {key: info.dtype for key, info in inputs.items()}

    def _get_metadata(self, path: _Path) -> Any:
        request = GetModelMetadataRequest(metadata_field=[_SIGNATURE_DEF])
        _fill_spec(request.model_spec, path)
        return self._services.get_model_metadata(request)

    def _metadata(self, path: _Path) -> str:
        response = self._get_metadata(path)
        signatures = SignatureDefMap()
        response.metadata[_SIGNATURE_DEF].Unpack(signatures)
        # Put together as ToJsonString in model_servers/http_rest_api_util.cc does.
        return (
            f'{{\n"model_spec":{_message_text(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {_message_text(signatures)}}}\n}}\n'
        )

    def _status(self, path: _Path) -> str:
        request = GetModelStatusRequest()
        _fill_spec(request.model_spec, path)
        return _message_text(self._services.get_model_status(request))


def _parse(method: str, target: str) -> _Path:
    """Return what `target` names; raises ServingError where the API has no such path."""
    pattern = {"POST": _PREDICTION, "GET": _STATUS}.get(method)
    # TF Serving matches the path with its query, so a query is malformed.
    match = pattern.fullmatch(target) if pattern else None
    if match is None:
        raise invalid_argument(f"Malformed request: {method} {target}")
    name, version, label, last = match.groups()
    if version and int(version) > LARGEST_INT64:
        raise invalid_argument(f"Failed to convert version: {version} to numeric.")
    if method == "POST" and last not in ("classify", "regress", "predict"):
        raise invalid_argument(f"Malformed request: {method} {target}")
    if name is None:
        raise invalid_argument("Missing model name in request.")
    if method == "GET":
        last = "metadata" if last == "metadata" else "status"
    return _Path(
        model=_decoded(name),
        version=int(version) if version else None,
        label=_decoded(label) if label else None,
        method=last,
    )


def _decoded(text: str) -> str:
    return _as_unicode(unquote_to_bytes(text.encode("utf-8", "surrogateescape")))


def _as_unicode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _fill_spec(spec: Any, path: _Path) -> None:
    spec.name = path.model
    if path.version is not None:
        spec.version.value = path.version
    if path.label is not None:
        spec.version_label = path.label


def _message_text(message: Any) -> str:
    """Return a message as protobuf's C++ JSON printer lays it out."""
    text = json_format.MessageToJson(
        message,
        indent=1,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )
    return f"{text}\n"
