"""The asyncio form of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from serving.answers import ModelMetadata, Prediction, Recommendations, VersionStatus
from serving.connection import open_channel, stubs
from serving.dialogue import Answer, ClientOptions, Dialogue, Method, Send, Steps
from serving.requests import ModelChoice, PredictRequest, RecommendRequest
from serving.wishes import Wishes


class AsyncRecommenderClient:
    """`RecommenderClient` for asyncio: the same methods, awaited; many calls share a connection.

    It belongs to the event loop in which it is first used, and raises what the other form does.
    """

    def __init__(self, address: str, **options: Unpack[ClientOptions]) -> None:
        self._dialogue = Dialogue(address, **options)
        if self._dialogue.tls is not None:
            # The channel waits for an event loop; a wrong path is said now.
            self._dialogue.tls.credentials()
        self._channel: Any = None
        self._stubs: Mapping[Method, Any] = {}

    @property
    def address(self) -> str:
        """HOST:PORT of the server."""
        return self._dialogue.address

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def recommend(
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
        return await self._take(self._dialogue.recommend(request, timeout=timeout))

    async def predict(self, request: PredictRequest, *, timeout: float | None = None) -> Prediction:
        """Return the outputs of a signature, in one request however many rows it has.

        Raises UserError for an input that is no tensor.
        """
        return await self._take(self._dialogue.predict(request, timeout=timeout))

    async def model_status(
        self, model: str | ModelChoice | None = None, *, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the states of a model's versions, newest first; the client's own by default."""
        return await self._take(self._dialogue.model_status(model, timeout=timeout))

    async def model_metadata(
        self, model: str | ModelChoice | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Return the signatures of a model; the client's own by default."""
        return await self._take(self._dialogue.model_metadata(model, timeout=timeout))

    async def _take(self, steps: Steps[Answer]) -> Answer:
        """Take the steps one after the other, and return the answer they end with."""
        if self._channel is None:
            # Made here: a channel of grpc.aio takes the loop that runs when it is made.
            self._channel = open_channel(grpc.aio, self._dialogue.address, tls=self._dialogue.tls)
            self._stubs = stubs(self._channel)
        try:
            step = next(steps)
            while True:
                if not isinstance(step, Send):
                    await asyncio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = await self._stubs[step.method](step.request, timeout=step.timeout)
                except grpc.RpcError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as end:
            return end.value
