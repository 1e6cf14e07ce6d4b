"""A gRPC client of TF Serving's API that imports no TensorFlow, for either of the two servers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from interactions.errors import UserError
from serving import messages
from serving.answers import (
    ModelMetadata,
    Prediction,
    Recommendations,
    RecommendedItem,
    Signature,
    TensorSpec,
    VersionStatus,
)
from serving.tensors import to_array, to_tensor

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC waits a second before it knocks again; the retries here come sooner than that.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0
_SIGNATURE_DEF = "signature_def"
_COLUMNS = ("item_id", "score", "retrieval_score", "count")
_OF_THE_REQUEST = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class RequestError(UserError):
    """A request that the server did not answer: one line, and the gRPC status code."""

    def __init__(self, text: str, *, code: grpc.StatusCode) -> None:
        super().__init__(text)
        self.code = code


class RecommenderClient:
    """Asks a server at `address` (HOST:PORT) for recommendations; safe to share among threads.

    `timeout` (seconds) is the deadline of a call with all its retries. Only UNAVAILABLE is tried
    again, up to `retries` times. Raises UserError for a malformed address.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 10.0,
        model: str = "recommender",
        retries: int = 4,
    ) -> None:
        if not re.fullmatch(r"\S+:\d{1,5}", address):
            raise UserError(f"{address!r} is not a server's address; give HOST:PORT")
        self.address = address
        self._timeout = timeout
        self._model = model
        self._retries = retries
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._predict = self._method("PredictionService/Predict", messages.PredictResponse)
        self._metadata = self._method(
            "PredictionService/GetModelMetadata", messages.GetModelMetadataResponse
        )
        self._status = self._method("ModelService/GetModelStatus", messages.GetModelStatusResponse)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def recommend(self, user_ids: Sequence[str], *, k: int) -> list[Recommendations]:
        """Return up to `k` items for each user, in the order of `user_ids`.

        Raises UserError where `k` is not between 1 and the model's max_k, or no server answers,
        and RequestError where the server refuses.
        """
        if isinstance(user_ids, str):
            raise UserError(f"user_ids is the string {user_ids!r}; give a list of user ids")
        if k < 1:
            raise UserError(f"k is {k}; ask for at least 1 item")
        if not user_ids:
            return []
        outputs = self.predict(self._model, {"user_id": list(user_ids)}).outputs
        missing = [name for name in _COLUMNS if name not in outputs]
        if missing:
            raise UserError(
                f"model {self._model!r} at {self.address} has no output {', '.join(missing)}; "
                "name a recommender model that `tandem export` wrote"
            )
        max_k = outputs["item_id"].shape[1]
        if k > max_k:
            raise UserError(
                f"k={k} is above max_k={max_k} of model {self._model!r}; "
                f"ask for at most {max_k}, or export with a larger max_k"
            )
        return [
            _recommendations(user_id, outputs, row=row, k=k) for row, user_id in enumerate(user_ids)
        ]

    def predict(
        self, model: str, inputs: Mapping[str, Any], signature: str = "serving_default"
    ) -> Prediction:
        """Return the outputs of a signature for `inputs`: arrays, or lists of str or numbers.

        Raises UserError for an input that is no tensor or where no server answers, and
        RequestError where the server refuses.
        """
        request = messages.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            try:
                request.inputs[name].CopyFrom(to_tensor(values))
            except ValueError as error:
                raise UserError(f"input {name!r} of model {model!r}: {error}") from error
        response = self._call(self._predict, request)
        return Prediction(
            model=response.model_spec.name,
            version=response.model_spec.version.value,
            signature=response.model_spec.signature_name,
            outputs={name: to_array(tensor) for name, tensor in response.outputs.items()},
        )

    def model_status(
        self, model: str | None = None, *, version: int | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the states of a model's versions, newest first; the client's own by default.

        Raises UserError where no server answers, and RequestError for an unknown model or version.
        """
        request = messages.GetModelStatusRequest()
        self._fill_spec(request.model_spec, model, version)
        response = self._call(self._status, request)
        names = messages.State.values_by_number
        return tuple(
            VersionStatus(
                version=status.version,
                state=names[status.state].name,
                error=status.status.error_message,
            )
            for status in response.model_version_status
        )

    def model_metadata(
        self, model: str | None = None, *, version: int | None = None
    ) -> ModelMetadata:
        """Return the signatures of a model; the client's own by default.

        Raises UserError where no server answers, and RequestError for an unknown model or version.
        """
        request = messages.GetModelMetadataRequest(metadata_field=[_SIGNATURE_DEF])
        self._fill_spec(request.model_spec, model, version)
        response = self._call(self._metadata, request)
        found = messages.SignatureDefMap.FromString(response.metadata[_SIGNATURE_DEF].value)
        return ModelMetadata(
            model=response.model_spec.name,
            version=response.model_spec.version.value,
            signatures={
                name: Signature(
                    inputs={key: _tensor_spec(info) for key, info in signature.inputs.items()},
                    outputs={key: _tensor_spec(info) for key, info in signature.outputs.items()},
                )
                for name, signature in found.signature_def.items()
            },
        )

    def _method(self, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/tensorflow.serving.{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _fill_spec(self, spec: Any, model: str | None, version: int | None) -> None:
        spec.name = self._model if model is None else model
        if version is not None:
            spec.version.value = version

    def _call(self, method: Any, request: Any) -> Any:
        """Return the answer to `request`, trying again with growing pauses while unavailable."""
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_BACKOFF
        for left in range(self._retries, -1, -1):
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.0))
            except grpc.RpcError as error:
                code = error.code()  # pyright: ignore[reportAttributeAccessIssue]
                worth_it = left and time.monotonic() + pause < deadline
                if code != grpc.StatusCode.UNAVAILABLE or not worth_it:
                    self._explain(error, code)
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_BACKOFF)
        raise AssertionError("the last try returns or raises")

    def _explain(self, error: Any, code: grpc.StatusCode) -> None:
        """Raise the errors that the caller can mend in words of ours; leave the others as is."""
        if code == grpc.StatusCode.UNAVAILABLE:
            text = (
                f"no server answers at {self.address}; "
                "start one with `tandem serve BUNDLE`, or give the HOST:PORT where one runs"
            )
        elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
            text = (
                f"the server at {self.address} did not answer within {self._timeout:g} seconds; "
                "give a longer timeout or send fewer users at once"
            )
        elif code in _OF_THE_REQUEST:
            text = f"the server at {self.address} refused ({code.name}): {error.details()}"
        else:
            return
        raise RequestError(text, code=code) from error


def _recommendations(
    user_id: str, outputs: Mapping[str, np.ndarray], *, row: int, k: int
) -> Recommendations:
    """Return row `row` of the recommender's outputs, each [B, max_k] but `count` [B]."""
    tasks = [name for name in outputs if name not in _COLUMNS]
    return Recommendations(
        user_id=user_id,
        items=tuple(
            RecommendedItem(
                item_id=outputs["item_id"][row, rank].decode("utf-8"),
                score=float(outputs["score"][row, rank]),
                retrieval_score=float(outputs["retrieval_score"][row, rank]),
                tasks={name: float(outputs[name][row, rank]) for name in tasks},
            )
            for rank in range(min(k, int(outputs["count"][row])))
        ),
    )


def _tensor_spec(info: Any) -> TensorSpec:
    known = messages.DataType.values_by_number
    shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(
        dtype=known[info.dtype].name if info.dtype in known else str(info.dtype),
        shape=None if info.tensor_shape.unknown_rank else shape,
    )
