"""TF Serving's requests, answered: messages in, messages out. gRPC and REST are doors to this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serving import inference
from serving.apis import (
    GetModelMetadataResponse,
    GetModelStatusResponse,
    ReloadConfigResponse,
    SignatureDefMap,
)
from serving.errors import invalid_argument
from serving.rollout import Rollout
from serving.table import ServableTable

_SIGNATURE_DEF = "signature_def"
_MAP_TYPE = f"type.googleapis.com/{SignatureDefMap.DESCRIPTOR.full_name}"


class Services:
    """Answers requests from the models of a table.

    Every method takes a message of `tensorflow_serving.apis` and returns one, and raises
    ServingError with TF Serving's code and text. `deadline` is in seconds of `time.monotonic`;
    None waits as long as it takes. `predicted` is told of each PredictRequest and its answer.
    """

    def __init__(
        self,
        table: ServableTable,
        rollout: Rollout,
        *,
        predicted: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self._table = table
        self._rollout = rollout
        self._predicted = predicted

    def predict(self, request: Any, *, deadline: float | None = None) -> Any:
        """PredictRequest -> PredictResponse."""
        _check_spec(request)
        with self._table.use(request.model_spec) as model:
            response = inference.predict(model, request, deadline=deadline)
        if self._predicted is not None:
            self._predicted(request, response)
        return response

    def classify(self, request: Any, *, deadline: float | None = None) -> Any:
        """ClassificationRequest -> ClassificationResponse."""
        _check_spec(request)
        with self._table.use(request.model_spec) as model:
            return inference.classify(model, request, deadline=deadline)

    def regress(self, request: Any, *, deadline: float | None = None) -> Any:
        """RegressionRequest -> RegressionResponse."""
        _check_spec(request)
        with self._table.use(request.model_spec) as model:
            return inference.regress(model, request, deadline=deadline)

    def multi_inference(self, request: Any, *, deadline: float | None = None) -> Any:
        """MultiInferenceRequest -> MultiInferenceResponse; the first task names the model."""
        if not request.tasks:
            raise invalid_argument("ModelSpec has no name specified.")
        with self._table.use(request.tasks[0].model_spec) as model:
            return inference.multi_inference(model, request, deadline=deadline)

    def get_model_metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse."""
        _check_spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                # TF Serving joins its format and the field as they stand.
                raise invalid_argument(f"Metadata field %s is not supported{field}")
        response = GetModelMetadataResponse()
        with self._table.use(request.model_spec) as model:
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
            packed = response.metadata[_SIGNATURE_DEF]
            packed.type_url, packed.value = _MAP_TYPE, model.signature_map
        return response

    def get_model_status(self, request: Any) -> Any:
        """GetModelStatusRequest -> GetModelStatusResponse, newest version first."""
        _check_spec(request)
        spec = request.model_spec
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        response = GetModelStatusResponse()
        for state in self._table.states(spec.name, version=self._version(spec)):
            status = response.model_version_status.add(version=state.version, state=state.state)
            # An answer without a status would read as unknown; an empty one is OK.
            status.status.SetInParent()
            if state.error is not None:
                status.status.error_code = state.error.number
                status.status.error_message = str(state.error)
        return response

    def reload_config(self, request: Any) -> Any:
        """ReloadConfigRequest -> ReloadConfigResponse, once new models answer."""
        self._rollout.reload(request.config)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def signatures(self, spec: Any) -> Mapping[str, Any]:
        """Return the SignatureDefs by name of the model that a ModelSpec asks for."""
        with self._table.use(spec) as model:
            return model.signatures

    def _version(self, spec: Any) -> int | None:
        """Return the version that is asked for; None is all."""
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            return self._table.label_version(spec)
        return spec.version.value if choice == "version" else None


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
