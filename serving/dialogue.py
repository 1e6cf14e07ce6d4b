"""What a client says, and what it makes of the answers, without a connection.

Each method of `Dialogue` is a generator of steps: a `Send` is sent back the response's message, or
has the grpc.RpcError thrown into it, a `Pause` is sent nothing; what the generator returns is the
answer. The two clients differ in how they take these steps and in nothing else.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import grpc
import numpy as np

from interactions.errors import UserError
from serving import messages
from serving.answers import (
    ModelMetadata,
    Prediction,
    Recommendations,
    Signature,
    TensorSpec,
    VersionStatus,
)
from serving.client_errors import RequestError, ServerFault, explained, late
from serving.client_tls import ClientTls
from serving.lists import recommendations
from serving.requests import ModelChoice, PredictRequest, RecommendRequest
from serving.tensors import to_array, to_tensor
from serving.wishes import SIGNATURE, Wishes, request_inputs

Answer = TypeVar("Answer")

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0
_SIGNATURE_DEF = "signature_def"
_DOES_NOT_FIT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
_COLUMNS = ("item_id", "score", "retrieval_score", "count")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of both clients."""

    timeout: float
    """Seconds that a call may take with all its requests and retries; 10 where left out."""
    model: str
    """The recommender's name on the server; `recommender` where left out."""
    retries: int
    """How often a request is sent again while the server is UNAVAILABLE; 4 where left out."""
    max_batch: int
    """Most users in one request, 32 where left out: `export.max_batch` of the bundle, above which
    a server that batches refuses."""
    tls: ClientTls | None
    """How to speak TLS; without encryption where left out."""


@dataclass(frozen=True)
class Method:
    """A method of TF Serving's API, and the class of its response."""

    path: str
    response: Any


PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictResponse)
METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata", messages.GetModelMetadataResponse
)
STATUS = Method("/tensorflow.serving.ModelService/GetModelStatus", messages.GetModelStatusResponse)
METHODS = (PREDICT, METADATA, STATUS)


@dataclass(frozen=True)
class Send:
    """Send a request, and bring the response or the error."""

    method: Method
    request: Any
    timeout: float
    """Seconds."""


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Steps = Generator[Send | Pause, Any, Answer]


class Dialogue:
    """One side of the talk with the server at `address` (HOST:PORT); holds no connection.

    Raises UserError for a malformed address and for options out of their range.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 10.0,
        model: str = "recommender",
        retries: int = 4,
        max_batch: int = 32,
        tls: ClientTls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not re.fullmatch(r"\S+:\d{1,5}", address):
            raise UserError(f"{address!r} is not a server's address; give HOST:PORT")
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; give at least 1")
        self.address = address
        self.tls = tls
        self._timeout = timeout
        self._model = model
        self._retries = retries
        self._max_batch = max_batch
        self._clock = clock
        self._jitter = random.Random()
        self._metadata_kept: ModelMetadata | None = None

    def recommend(
        self, request: RecommendRequest, *, timeout: float | None
    ) -> Steps[list[Recommendations]]:
        """Ask for a list for each user, at most `max_batch` users at once."""
        deadline = self._deadline(timeout)
        found: list[Recommendations] = []
        for start in range(0, len(request.user_ids), self._max_batch):
            users = request.user_ids[start : start + self._max_batch]
            if request.wishes is None:
                asked = PredictRequest(self._model, {"user_id": list(users)})
                outputs = (yield from self._predict(asked, deadline=deadline)).outputs
            else:
                wishes = request.wishes
                outputs = yield from self._wished(users, wishes, k=request.k, deadline=deadline)
            self._check_lists(outputs, k=request.k)
            found += [
                recommendations(user_id, outputs, row=row, k=request.k)
                for row, user_id in enumerate(users)
            ]
        return found

    def predict(self, request: PredictRequest, *, timeout: float | None) -> Steps[Prediction]:
        """Ask for the outputs of a signature."""
        return (yield from self._predict(request, deadline=self._deadline(timeout)))

    def model_status(
        self, model: str | ModelChoice | None, *, timeout: float | None
    ) -> Steps[tuple[VersionStatus, ...]]:
        """Ask for the states of a model's versions."""
        message = messages.GetModelStatusRequest()
        self._fill_spec(message.model_spec, model)
        response = yield from self._send(STATUS, message, deadline=self._deadline(timeout))
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
        self, model: str | ModelChoice | None, *, timeout: float | None
    ) -> Steps[ModelMetadata]:
        """Ask for the signatures of a model."""
        return (yield from self._metadata(model, deadline=self._deadline(timeout)))

    def _wished(
        self, users: Sequence[str], wishes: Wishes, *, k: int, deadline: float
    ) -> Steps[Mapping[str, np.ndarray]]:
        """Ask with wishes.

        What may be wished is asked for once, and again once another version has answered: a new
        export may differ. An answer is never thrown away, since the server has logged it as shown;
        only a request that does not fit is made anew.
        """
        kept = self._metadata_kept
        metadata = kept or (yield from self._metadata(None, deadline=deadline))
        try:
            inputs = request_inputs(self._request_signature(metadata), wishes, users, k=k)
            asked = PredictRequest(self._model, inputs, SIGNATURE)
            prediction = yield from self._predict(asked, deadline=deadline)
        except UserError as error:
            self._metadata_kept = None
            if kept is None or not _may_be_outdated(error):
                raise
            return (yield from self._wished(users, wishes, k=k, deadline=deadline))
        self._metadata_kept = metadata if prediction.version == metadata.version else None
        return prediction.outputs

    def _request_signature(self, metadata: ModelMetadata) -> Signature:
        """Return what a request to the recommender may wish."""
        if SIGNATURE not in metadata.signatures:
            raise UserError(
                f"model {self._model!r} at {self.address} takes no wishes: it has no signature "
                f"{SIGNATURE!r}; export it with this version of Tandem"
            )
        return metadata.signatures[SIGNATURE]

    def _metadata(
        self, model: str | ModelChoice | None, *, deadline: float
    ) -> Steps[ModelMetadata]:
        message = messages.GetModelMetadataRequest(metadata_field=[_SIGNATURE_DEF])
        self._fill_spec(message.model_spec, model)
        response = yield from self._send(METADATA, message, deadline=deadline)
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

    def _predict(self, request: PredictRequest, *, deadline: float) -> Steps[Prediction]:
        message = messages.PredictRequest(output_filter=request.outputs)
        self._fill_spec(message.model_spec, request.model)
        message.model_spec.signature_name = request.signature
        for name, values in request.inputs.items():
            try:
                message.inputs[name].CopyFrom(to_tensor(values))
            except ValueError as error:
                raise UserError(
                    f"input {name!r} of model {message.model_spec.name!r}: {error}"
                ) from error
        response = yield from self._send(PREDICT, message, deadline=deadline)
        try:
            outputs = {name: to_array(tensor) for name, tensor in response.outputs.items()}
        except ValueError as error:
            raise ServerFault(
                f"the server at {self.address} gave an answer that is no tensor: {error}",
                code=grpc.StatusCode.INTERNAL,
            ) from error
        return Prediction(
            model=response.model_spec.name,
            version=response.model_spec.version.value,
            signature=response.model_spec.signature_name,
            outputs=outputs,
        )

    def _send(self, method: Method, message: Any, *, deadline: float) -> Steps[Any]:
        """Send, and again after growing pauses while the server is unavailable and time is left.

        Nothing is sent when no time is left: gRPC now and then takes the answer of a quick server
        after a deadline that has passed.
        """
        longest = _FIRST_BACKOFF
        left = self._retries
        while True:
            time_left = deadline - self._clock()
            if time_left <= 0:
                raise late(self.address)
            try:
                return (yield Send(method, message, timeout=time_left))
            except grpc.RpcError as error:
                # Uneven, so that clients that lost a server together do not come back together.
                pause = longest * self._jitter.uniform(0.5, 1.0)
                # grpc.Call's methods, which the class of the error does not declare
                unavailable = cast(Any, error).code() == grpc.StatusCode.UNAVAILABLE
                if not (unavailable and left and self._clock() + pause < deadline):
                    raise explained(
                        error, address=self.address, secure=self.tls is not None
                    ) from error
            yield Pause(pause)
            left -= 1
            longest = min(2 * longest, _LONGEST_BACKOFF)

    def _deadline(self, timeout: float | None) -> float:
        return self._clock() + (self._timeout if timeout is None else timeout)

    def _fill_spec(self, spec: Any, model: str | ModelChoice | None) -> None:
        chosen = self._model if model is None else model
        if isinstance(chosen, str):
            chosen = ModelChoice(chosen)
        spec.name = chosen.name
        if chosen.version is not None:
            spec.version.value = chosen.version
        elif chosen.label is not None:
            spec.version_label = chosen.label

    def _check_lists(self, outputs: Mapping[str, np.ndarray], *, k: int) -> None:
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


def _may_be_outdated(error: UserError) -> bool:
    """Say whether a request may have been made for another version than the one that answers."""
    return not isinstance(error, RequestError) or error.code in _DOES_NOT_FIT


def _tensor_spec(info: Any) -> TensorSpec:
    known = messages.DataType.values_by_number
    shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(
        dtype=known[info.dtype].name if info.dtype in known else str(info.dtype),
        shape=None if info.tensor_shape.unknown_rank else shape,
    )
