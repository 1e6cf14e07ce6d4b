"""The embedded server: TF Serving's Predict, GetModelMetadata and GetModelStatus over gRPC."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from export.manifest import read_bundle
from interactions.errors import UserError
from serving.apis import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
)
from serving.errors import ServingError, invalid_argument
from serving.tensors import write_tensor
from serving.versions import ServableTable, load_newest, read_model_config

_LOG = logging.getLogger(__name__)
_SIGNATURE_DEF = "signature_def"
_OPTIONS = (
    # A second server on the port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class Services:
    """Answers TF Serving's requests from the models of a table; each method takes a message."""

    def __init__(self, table: ServableTable) -> None:
        self._table = table

    def predict(self, request: Any) -> Any:
        """Run a signature; raises ServingError, see LoadedModel.predict."""
        _check_spec(request)
        spec = request.model_spec
        servable = self._table.get(spec.name, version=_version(spec))
        answer = servable.model.predict(
            request.inputs,
            signature_name=spec.signature_name,
            output_filter=request.output_filter,
        )
        response = PredictResponse()
        _fill_spec(response.model_spec, servable.name, servable.version)
        response.model_spec.signature_name = answer.signature
        for name, array in answer.outputs.items():
            write_tensor(response.outputs[name], array)
        return response

    def get_model_metadata(self, request: Any) -> Any:
        """Return all signatures of a model; raises ServingError for another metadata field."""
        _check_spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {field} is not supported")
        spec = request.model_spec
        servable = self._table.get(spec.name, version=_version(spec))
        signatures = SignatureDefMap()
        for name, signature in servable.model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = GetModelMetadataResponse()
        _fill_spec(response.model_spec, servable.name, servable.version)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def get_model_status(self, request: Any) -> Any:
        """Return the states of a model's versions, newest first; raises ServingError."""
        _check_spec(request)
        spec = request.model_spec
        response = GetModelStatusResponse()
        for state in self._table.states(spec.name, version=_version(spec)):
            status = response.model_version_status.add(version=state.version, state=state.state)
            # An answer without a status would read as unknown; an empty one is OK.
            status.status.SetInParent()
            if state.error is not None:
                status.status.error_code = state.error.number
                status.status.error_message = str(state.error)
        return response


class RunningServer:
    """A server that answers until it is stopped; leaving its `with` block stops it."""

    def __init__(self, server: Any, *, table: ServableTable, host: str, port: int) -> None:
        self._server = server
        self._table = table
        self.host = host
        self.port = port

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, with a second for what is under way."""
        self.stop(grace=1.0)

    @property
    def address(self) -> str:
        """HOST:PORT, as a client wants it."""
        return _address(self.host, self.port)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is stopped, or `timeout` seconds; return whether it was stopped."""
        return not self._server.wait_for_termination(timeout)

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, give those under way `grace` seconds, then free the models."""
        self._server.stop(grace).wait()
        self._table.close()


def serve(
    bundle: Path, *, grpc_port: int = 8500, host: str = "127.0.0.1", workers: int = 8
) -> RunningServer:
    """Serve the models that `bundle`/models.config lists; port 0 takes a free one.

    The port opens once every model is loaded and warm. Raises UserError for a folder that is no
    bundle or is damaged, a model that cannot be loaded, and a port that is taken.
    """
    bundle = read_bundle(bundle).folder
    entries = read_model_config(bundle / "models.config")
    table = ServableTable()
    try:
        for entry in entries:
            # The paths in the file are those inside TF Serving's container.
            load_newest(table, replace(entry, base_path=bundle / entry.name))
        return _start(table, host=host, port=grpc_port, workers=workers)
    except BaseException:
        table.close()
        raise


def _start(table: ServableTable, *, host: str, port: int, workers: int) -> RunningServer:
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=workers, thread_name_prefix="serving"),
        options=_OPTIONS,
    )
    _register(server, Services(table))
    try:
        bound = server.add_insecure_port(_address(host, port))
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(
            f"cannot listen on {_address(host, port)}: the port is taken or the host is not this "
            "machine's; stop what holds it, or give another --grpc-port (0 takes a free one)"
        )
    server.start()
    return RunningServer(server, table=table, host=host, port=bound)


def _register(server: Any, services: Services) -> None:
    """Register our methods only: gRPC answers all others with UNIMPLEMENTED."""
    prediction = {
        "Predict": _handler(services.predict, PredictRequest),
        "GetModelMetadata": _handler(services.get_model_metadata, GetModelMetadataRequest),
    }
    model = {"GetModelStatus": _handler(services.get_model_status, GetModelStatusRequest)}
    _add(server, "tensorflow.serving.PredictionService", prediction)
    _add(server, "tensorflow.serving.ModelService", model)


def _add(server: Any, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
    generic = grpc.method_handlers_generic_handler(service, handlers)
    server.add_generic_rpc_handlers((generic,))


def _handler(method: Callable[[Any], Any], request: Any) -> grpc.RpcMethodHandler:
    def answer(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(message)
        except ServingError as error:
            context.abort(error.code, error.wire_text)
        except Exception as error:
            # Its text may hold what was asked: the log gets it, the wire does not.
            _LOG.exception("a request failed")
            context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.model_spec.name:
        raise invalid_argument("ModelSpec has no name specified.")


def _version(spec: Any) -> int | None:
    """Return the version that is asked for; None is the newest. No version has a label here."""
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if choice == "version" else None


def _fill_spec(spec: Any, name: str, version: int) -> None:
    spec.name = name
    spec.version.value = version


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
