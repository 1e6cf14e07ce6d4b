"""The load generator: one asyncio program that speaks gRPC and HTTP, with requests made before.

Messages go out and come in as bytes, so that the client costs little on a machine that it shares
with the server. Requests are for one known user each, drawn in turn.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc
import numpy as np

from serving.messages import PredictRequest
from serving.tensors import to_tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
OK = "OK"
_CLIENTS_PER_CONNECTION = 8
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 500),
)

Ask = Callable[[int], Awaitable[str]]
"""Sends request number n and returns the status code's name."""


@dataclass(frozen=True)
class Calls:
    """What came of some calls, in the order of their ends."""

    start: np.ndarray
    """[calls] seconds of `time.monotonic`."""
    seconds: np.ndarray
    """[calls] how long each took."""
    codes: tuple[str, ...]
    elapsed: float
    lag: float = 0.0
    """Seconds by which this program was late to look, at worst: an answer may be older by that."""

    @property
    def answered(self) -> np.ndarray:
        """[calls] bool: whether the code is OK."""
        return np.array([code == OK for code in self.codes], bool)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return float(self.answered.sum() / self.elapsed)

    def quantile(self, share: float) -> float:
        """Return the milliseconds within which that share of the answers came."""
        seconds = self.seconds[self.answered]
        return float(np.quantile(seconds, share) * 1e3) if len(seconds) else float("nan")

    @property
    def failures(self) -> dict[str, int]:
        """How many calls ended with another code than OK."""
        return dict(Counter(code for code in self.codes if code != OK))


def predict_bodies(model: str, users: Sequence[str], *, rows: int = 1) -> list[bytes]:
    """Return one PredictRequest for each group of `rows` users, as bytes."""
    bodies = []
    for start in range(0, len(users) - rows + 1, rows):
        request = PredictRequest()
        request.model_spec.name = model
        request.inputs["user_id"].CopyFrom(to_tensor(list(users[start : start + rows])))
        bodies.append(request.SerializeToString())
    return bodies


class GrpcTraffic:
    """Asks over gRPC, eight clients to a connection."""

    def __init__(
        self, address: str, bodies: Sequence[bytes], *, clients: int, deadline: float = 30.0
    ) -> None:
        self._address = address
        self._bodies = bodies
        self._deadline = deadline
        self._connections = -(-clients // _CLIENTS_PER_CONNECTION)
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []

    async def __aenter__(self) -> Self:
        """Make the channels, which belong to the loop that runs."""
        for _ in range(self._connections):
            self._channels.append(grpc.aio.insecure_channel(self._address, options=_CHANNEL))
        self._calls = [channel.unary_unary(PREDICT) for channel in self._channels]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    async def ask(self, number: int) -> str:
        """Send request `number` and return the code."""
        body = self._bodies[number % len(self._bodies)]
        try:
            await self._calls[number % len(self._calls)](body, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return OK


class RestTraffic:
    """Asks over REST, one connection for each client."""

    def __init__(self, address: str, model: str, users: Sequence[str], *, clients: int) -> None:
        self._url = f"http://{address}/v1/models/{model}:predict"
        self._bodies = [json.dumps({"instances": [{"user_id": user}]}).encode() for user in users]
        self._clients = clients
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._clients))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        assert self._session is not None
        await self._session.close()

    async def ask(self, number: int) -> str:
        """Send request `number` and return OK, or the HTTP status or the error's name."""
        assert self._session is not None
        body = self._bodies[number % len(self._bodies)]
        try:
            async with self._session.post(self._url, data=body) as response:
                await response.read()
                return OK if response.status == 200 else f"HTTP {response.status}"
        except aiohttp.ClientError as error:
            return type(error).__name__


async def closed_loop(ask: Ask, *, clients: int, seconds: float) -> Calls:
    """Have `clients` ask one request after the other for some seconds."""
    began = time.monotonic()
    rows: list[tuple[float, float, str]] = []

    async def client(number: int) -> None:
        while (start := time.monotonic()) - began < seconds:
            code = await ask(number)
            rows.append((start, time.monotonic() - start, code))
            number += clients

    await asyncio.gather(*[client(number) for number in range(clients)])
    return _calls(rows, elapsed=time.monotonic() - began)


async def open_loop(ask: Ask, *, rate: float, seconds: float) -> Calls:
    """Send `rate` requests a second for some seconds, whether or not answers come."""
    began = time.monotonic()
    rows: list[tuple[float, float, str]] = []
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        start = time.monotonic()
        code = await ask(number)
        rows.append((start, time.monotonic() - start, code))

    watching = asyncio.create_task(_worst_lag())
    for number in range(int(rate * seconds)):
        ahead = began + number / rate - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        elif number % 32 == 0:
            # Behind its plan, the loop must still read answers.
            await asyncio.sleep(0)
        task = asyncio.create_task(one(number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    elapsed = time.monotonic() - began
    await asyncio.gather(*under_way)
    watching.cancel()
    return _calls(rows, elapsed=elapsed, lag=await watching)


async def _worst_lag(every: float = 0.01) -> float:
    """Return, when cancelled, by how many seconds the loop was late at worst."""
    worst = 0.0
    try:
        while True:
            began = time.monotonic()
            await asyncio.sleep(every)
            worst = max(worst, time.monotonic() - began - every)
    except asyncio.CancelledError:
        return worst


def _calls(rows: Sequence[tuple[float, float, str]], *, elapsed: float, lag: float = 0.0) -> Calls:
    columns: Any = list(zip(*rows, strict=True)) or [(), (), ()]
    return Calls(
        start=np.array(columns[0], float),
        seconds=np.array(columns[1], float),
        codes=tuple(columns[2]),
        elapsed=elapsed,
        lag=lag,
    )
