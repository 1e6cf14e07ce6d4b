"""A gRPC client of TF Serving's API that imports no TensorFlow, for either of the two servers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import grpc

from serving.answers import ModelMetadata, Prediction, Recommendations, VersionStatus
from serving.client_errors import RequestError, ServerFault
from serving.client_tls import ClientTls
from serving.connection import open_channel, stubs
from serving.dialogue import Answer, ClientOptions, Dialogue, Send, Steps
from serving.requests import ModelChoice, PredictRequest, RecommendRequest
from serving.wishes import Wishes

__all__ = [
    "ClientTls", "ModelChoice", "PredictRequest", "RecommenderClient", "RequestError",
    "ServerFault", "Wishes",
]  # fmt: skip


class RecommenderClient:
    """Asks a server at `address` (HOST:PORT) for recommendations; safe to share among threads.

    It keeps one connection. Only what is UNAVAILABLE is asked again. Every method takes a
    `timeout` in seconds of its own, and raises RequestError where no server answers or it refuses,
    and ServerFault where the server fails. Raises UserError for a malformed address, certificates
    that cannot be used and options out of their range.
    """

    def __init__(self, address: str, **options: Unpack[ClientOptions]) -> None:
        self._dialogue = Dialogue(address, **options)
        self._channel = open_channel(grpc, address, tls=self._dialogue.tls)
        self._stubs = stubs(self._channel)

    @property
    def address(self) -> str:
        """HOST:PORT of the server."""
        return self._dialogue.address

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

    def recommend(
        self,
        user_ids: Sequence[str],
        *,
        k: int,
        wishes: Wishes | None = None,
        timeout: float | None = None,
    ) -> list[Recommendations]:
        """Return up to `k` items for each user, in the order of `user_ids`.

        More than `max_batch` users are several requests within the one timeout. Raises UserError
        where `k` is not between 1 and the model's max_k, and for `wishes` that the model does not
        know or has no room for.
        """
        request = RecommendRequest(user_ids, k, wishes)
        return self._take(self._dialogue.recommend(request, timeout=timeout))

    def predict(self, request: PredictRequest, *, timeout: float | None = None) -> Prediction:
        """Return the outputs of a signature, in one request however many rows it has.

        Raises UserError for an input that is no tensor.
        """
        return self._take(self._dialogue.predict(request, timeout=timeout))

    def model_status(
        self, model: str | ModelChoice | None = None, *, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the states of a model's versions, newest first; the client's own by default."""
        return self._take(self._dialogue.model_status(model, timeout=timeout))

    def model_metadata(
        self, model: str | ModelChoice | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Return the signatures of a model; the client's own by default."""
        return self._take(self._dialogue.model_metadata(model, timeout=timeout))

    def _take(self, steps: Steps[Answer]) -> Answer:
        """Take the steps one after the other, and return the answer they end with."""
        try:
            step = next(steps)
            while True:
                if not isinstance(step, Send):
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = self._stubs[step.method](step.request, timeout=step.timeout)
                except grpc.RpcError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as end:
            return end.value
