"""A server in a process of its own, started as a user starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import psutil

READY_SECONDS = 300.0
# A channel waits longer and longer between its attempts to connect, 1, 1.6, 2.6, 4 and 6.5 s: a
# server that comes up at 10 s would be seen at 15.
_OFTEN = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]


class ServerProcess:
    """`tandem serve` on ports of its own; leaving its `with` block ends it.

    Raises RuntimeError where the server does not answer in time; its log is in `log`.
    """

    def __init__(
        self,
        served: Sequence[str],
        *,
        port: int,
        rest_port: int = 0,
        log: Path,
        flags: Sequence[str] = (),
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self.rest_address = f"127.0.0.1:{rest_port}" if rest_port else None
        self._log = log
        self._command = [
            str(Path(sys.executable).with_name("tandem")), "serve", *served,
            f"--port={port}", f"--rest_api_port={rest_port}", *flags,
        ]  # fmt: skip
        self._process = self._start()

    def __enter__(self) -> Self:
        """Wait until the server answers, and return it."""
        self.wait_until_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server by SIGTERM, or by force where that does not help."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> float:
        """Start the process again, and return the seconds until its port answered."""
        began = time.monotonic()
        self._process = self._start()
        self.wait_until_ready()
        return time.monotonic() - began

    def wait_until_ready(self) -> None:
        """Return once the port answers: it opens when the models are loaded."""
        end = time.monotonic() + READY_SECONDS
        with grpc.insecure_channel(self.address, _OFTEN) as channel:
            ready = grpc.channel_ready_future(channel)
            while self.is_alive and time.monotonic() < end:
                try:
                    return ready.result(timeout=0.5)
                except grpc.FutureTimeoutError:
                    continue
        raise RuntimeError(f"the server did not come up; see {self._log}")

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)
