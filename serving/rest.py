"""The REST door: an HTTP server on aiohttp beside the gRPC one, over `RestApi`."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from aiohttp import web

from interactions.errors import UserError
from serving.errors import ServingError, deadline_exceeded
from serving.json_writer import error_text
from serving.monitoring import DEFAULT_PATH, Monitor
from serving.rest_api import RestAnswer, RestApi

MOST_BODY_BYTES = 1 << 28
"""The largest body, unpacked. TF Serving has no limit and stops where memory ends."""

_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_TOO_LARGE = 413
_SECONDS_TO_START = 30


@dataclass(frozen=True)
class RestOptions:
    """How REST is served."""

    port: int
    """0 takes a free one."""
    host: str = "127.0.0.1"
    threads: int = 8
    """Requests that are worked on at once."""
    most_waiting: int = 256
    """Requests that wait for a thread; one more is answered at once by 429."""
    timeout_seconds: float = 30.0
    cors: bool = False
    """Whether answers allow pages of any origin to ask."""
    most_body_bytes: int = MOST_BODY_BYTES
    metrics_path: str = DEFAULT_PATH


class RestServer:
    """Answers HTTP requests in an event loop of its own, the work in a bounded pool of threads."""

    def __init__(
        self, api: RestApi, options: RestOptions, *, monitor: Monitor | None = None
    ) -> None:
        """Listen and answer; without a `monitor` there are no metrics.

        Raises UserError for a port that is taken and a host that is not this machine's.
        """
        self._api = api
        self._options = options
        self._monitor = monitor
        self._underway = 0
        listening = _listen(options)
        self.port: int = listening.getsockname()[1]
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._runner = self._new_runner()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(listening), self._loop)
        starting.result(_SECONDS_TO_START)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        host = self._options.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, and give those under way `grace` seconds."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(grace), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_runner(self) -> web.AppRunner:
        app = web.Application(client_max_size=self._options.most_body_bytes)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Bodies are unpacked in the pool, up to the limit; aiohttp would do it in the loop.
        return web.AppRunner(app, access_log=None, auto_decompress=False)

    async def _start(self, listening: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, listening, backlog=1024).start()

    async def _stop(self, grace: float) -> None:
        for site in list(self._runner.sites):
            await site.stop()
        end = self._loop.time() + grace
        while self._underway and self._loop.time() < end:
            await asyncio.sleep(0.01)
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self._underway += 1
        try:
            return await self._respond(request)
        finally:
            self._underway -= 1

    async def _respond(self, request: web.Request) -> web.Response:
        target = request.raw_path
        path = target.partition("?")[0]
        if self._monitor is not None and path == self._options.metrics_path:
            page = await self._loop.run_in_executor(None, self._monitor.page)
            return web.Response(body=page, content_type="text/plain")
        if not _API.fullmatch(path):
            return self._response(_refusal(f"Not found: {path}", status=404))
        if self._options.cors and request.method == "OPTIONS":
            return self._response(RestAnswer(status=200, body=b""))
        started = time.monotonic()
        try:
            packed = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._response(self._too_large())
        except (ConnectionError, web.RequestPayloadError):
            return self._response(_refusal("the body ends too early", status=400))
        encoding = request.headers.get("Content-Encoding", "")
        answer = await self._work(request.method, target, packed, encoding, started)
        self._count(answer, seconds=time.monotonic() - started)
        return self._response(answer)

    async def _work(
        self, method: str, target: str, packed: bytes, encoding: str, started: float
    ) -> RestAnswer:
        """Answer in the pool, or refuse where too many wait."""
        if self._underway > self._options.threads + self._options.most_waiting:
            return self._api.refuse(
                ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"more than {self._options.most_waiting} requests are waiting; try again later",
                )
            )
        deadline = started + self._options.timeout_seconds

        def answer() -> RestAnswer:
            if time.monotonic() > deadline:
                return self._api.refuse(deadline_exceeded())
            body = packed
            if "gzip" in encoding.lower():
                unpacked = _unpacked(packed, most=self._options.most_body_bytes)
                if unpacked is None:
                    return self._too_large()
                body = unpacked
            return self._api.answer(method, target, body, deadline=deadline)

        return await self._loop.run_in_executor(self._pool, answer)

    def _count(self, answer: RestAnswer, *, seconds: float) -> None:
        if self._monitor is not None and answer.method:
            self._monitor.request_done(
                answer.model,
                method=answer.method,
                entrypoint="REST",
                status=answer.code.name,
                seconds=seconds,
            )

    def _response(self, answer: RestAnswer) -> web.Response:
        return web.Response(
            status=answer.status,
            body=answer.body,
            content_type="application/json",
            headers=_CORS if self._options.cors else None,
        )

    def _too_large(self) -> RestAnswer:
        limit = self._options.most_body_bytes
        return _refusal(f"the body is larger than {limit} bytes", status=_TOO_LARGE)


def _refusal(text: str, *, status: int) -> RestAnswer:
    body = error_text(text).encode("utf-8", "surrogateescape")
    return RestAnswer(status=status, body=body, code=grpc.StatusCode.INVALID_ARGUMENT)


def _listen(options: RestOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot listen on {options.host}:{options.port} for REST ({reason}); stop what holds "
            "the port, or give another --rest_api_port (0 takes a free one)"
        ) from error


def _unpacked(packed: bytes, *, most: int) -> bytes | None:
    """Return what a gzip body holds, nothing where it is damaged, None where it is too large."""
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unzip.decompress(packed, most + 1)
    except zlib.error:
        return b""  # TF Serving then reads an empty document, and says so
    if len(body) > most:
        return None
    return body if unzip.eof else b""
