"""The gRPC door: TF Serving's two services, health and reflection, over `Services`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from grpc_reflection.v1alpha import reflection

from serving.admission import asker_is_there
from serving.apis import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    MultiInferenceRequest,
    PredictRequest,
    RegressionRequest,
    ReloadConfigRequest,
)
from serving.errors import ServingError
from serving.services import Services

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
OPTIONS = (
    # A second server on the port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_LOG = logging.getLogger(__name__)
# TF Serving's own names, the services' full ones, and the server as a whole.
_HEALTHY = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)

Observe = Callable[[str, str, grpc.StatusCode, float], None]
"""Told of every answer: the API (Predict), the model, the status and the seconds it took."""


def unobserved(api: str, model: str, code: grpc.StatusCode, seconds: float) -> None:
    """Do nothing."""
    del api, model, code, seconds


def register(server: Any, services: Services, *, observe: Observe = unobserved) -> None:
    """Register both services; gRPC answers all other methods with UNIMPLEMENTED."""

    prediction = {
        api: _handler(method, request, api=api, observe=observe)
        for api, method, request in (
            ("Predict", services.predict, PredictRequest),
            ("Classify", services.classify, ClassificationRequest),
            ("Regress", services.regress, RegressionRequest),
            ("MultiInference", services.multi_inference, MultiInferenceRequest),
        )
    }
    prediction["GetModelMetadata"] = _handler(services.get_model_metadata, GetModelMetadataRequest)
    model = {
        "GetModelStatus": _handler(services.get_model_status, GetModelStatusRequest),
        "HandleReloadConfigRequest": _handler(services.reload_config, ReloadConfigRequest),
    }
    for name, handlers in ((PREDICTION_SERVICE, prediction), (MODEL_SERVICE, model)):
        generic = grpc.method_handlers_generic_handler(name, handlers)
        server.add_generic_rpc_handlers((generic,))


def register_health(server: Any) -> HealthServicer:
    """Register the standard health service, which says that everything is SERVING."""
    servicer = HealthServicer()
    for name in _HEALTHY:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def register_reflection(server: Any) -> None:
    """Register the standard reflection service."""
    names = [PREDICTION_SERVICE, MODEL_SERVICE]
    names += [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)


def _handler(
    method: Callable[..., Any], request: Any, *, api: str = "", observe: Observe = unobserved
) -> grpc.RpcMethodHandler:
    """Return the handler of a method; one with an `api` runs a graph, up to the deadline."""

    def answer(message: Any, context: grpc.ServicerContext) -> Any:
        began = time.monotonic()
        code = grpc.StatusCode.OK
        try:
            if not api:
                return method(message)
            asker_is_there.set(context.is_active)
            left = context.time_remaining()
            return method(message, deadline=None if left is None else began + left)
        except ServingError as error:
            code = error.code
            context.abort(code, error.wire_text)
        except Exception as error:
            # Its text may hold what was asked: the log gets it, the wire does not.
            code = grpc.StatusCode.INTERNAL
            _LOG.exception("a request failed")
            context.abort(code, f"internal error: {type(error).__name__}")
        finally:
            if api:
                observe(api, _model_name(message), code, time.monotonic() - began)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _model_name(message: Any) -> str:
    tasks = getattr(message, "tasks", None)
    if tasks is None:
        return message.model_spec.name
    return tasks[0].model_spec.name if tasks else ""
