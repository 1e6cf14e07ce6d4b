"""Who may run a graph, and when: a bounded number at once, the others in line, up to a deadline.

There are no threads here. A request waits in its own thread, and the one whose turn has come runs
the graph in that thread, outside Python's lock, for itself and for those that run with it (see
`serving.batching`). When a run ends, the next turn goes to the line whose first request has waited
longest. Nobody waits for a thread to be woken while a turn is free.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import grpc
import numpy as np

from serving.errors import ServingError, deadline_exceeded
from serving.runners import Runner

Arrays = Mapping[str, np.ndarray]
RunTogether = Callable[[Sequence[Arrays]], Sequence[Arrays]]
"""Inputs of some requests in, their outputs in the same order out; raises for all of them."""

MOST_WAITING = 128
"""Requests that may wait by default: at some 5 ms each, what two cores clear within a second."""
_THREADS_FOR_REFUSALS = 8
_NEWEST_SHARE = 0.2
"""Weight of the last run in the average time of runs."""

asker_is_there: ContextVar[Callable[[], bool]] = ContextVar("asker_is_there", default=lambda: True)
"""Tells whether anybody still waits for the answer; a door sets it in the thread of a request."""


@dataclass(frozen=True)
class Limits:
    """How much runs and waits."""

    runs: int
    """Graphs that run at the same time."""
    waiting: int = MOST_WAITING
    """Requests that may wait for a turn; one more is refused."""

    @property
    def threads(self) -> int:
        """Threads a server needs so that all of these can wait and the next is refused at once."""
        return self.runs + self.waiting + _THREADS_FOR_REFUSALS


def schedulable_cores() -> int:
    """Return the cores that this process may use, TF Serving's default for its threads."""
    return len(os.sched_getaffinity(0))


class Admission:
    """Gives out turns to run; shared by all models of a server and safe for all threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._free = limits.runs
        self._waiting = 0
        # The lines in which somebody waits.
        self._lines: list[Line] = []

    @property
    def waiting(self) -> int:
        """Requests that wait for a turn now."""
        return self._waiting

    def run(
        self, line: Line, inputs: Arrays, *, rows: int = 1, deadline: float | None = None
    ) -> Arrays:
        """Wait for a turn in `line` and return the outputs for `inputs`, which count as `rows`.

        `deadline` is in seconds of `time.monotonic`. Raises ServingError: RESOURCE_EXHAUSTED at
        once where too many wait; DEADLINE_EXCEEDED where the turn comes too late, and CANCELLED
        where `asker_is_there` says no by then (nothing was run); and what the run raises.
        """
        ticket = _Ticket(inputs, rows=rows, deadline=deadline, patience=line.patience)
        if ticket.is_late(ticket.arrived):
            raise deadline_exceeded()
        with self._lock:
            self._enqueue(line, ticket)
            self._call_next(ticket.arrived)
        self._wait(line, ticket)
        if ticket.together is not None:
            self._run(line, ticket.together)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.outputs is not None
        return ticket.outputs

    def _enqueue(self, line: Line, ticket: _Ticket) -> None:
        """Put the ticket in line, or refuse it; the lock is held."""
        if self._is_full():
            self._drop_abandoned()
        if self._is_full():
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"The server is busy: {self.limits.waiting} requests are waiting already.",
            )
        if line.most_waiting_rows and line.rows + ticket.rows > line.most_waiting_rows:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "The batch scheduling queue to which this task was submitted is full",
            )
        if not line.tickets:
            self._lines.append(line)
        line.tickets.append(ticket)
        line.rows += ticket.rows
        self._waiting += 1

    def _is_full(self) -> bool:
        return self._waiting - self._free >= self.limits.waiting

    def _drop_abandoned(self) -> None:
        """Make room: who has gone needs no answer; the lock is held."""
        for line in tuple(self._lines):
            for ticket in tuple(line.tickets):
                if not ticket.is_wanted():
                    self._remove(line, ticket).give_up(_abandoned())

    def _call_next(self, now: float) -> None:
        """Give free turns to the lines that are ready, oldest request first; the lock is held."""
        while self._free and self._lines:
            ready = [line for line in self._lines if line.is_ready(now)]
            if not ready:
                # Nobody else would look again: the first of each line does, when it is time.
                for line in self._lines:
                    line.tickets[0].watch()
                return
            together = self._take(min(ready, key=lambda line: line.tickets[0].arrived), now)
            if together:
                self._free -= 1
                together[0].together = together
                together[0].event.set()

    def _take(self, line: Line, now: float) -> list[_Ticket]:
        """Return the tickets that run together next, without those that are late; lock held."""
        together: list[_Ticket] = []
        room = line.most_rows
        while line.tickets and (not together or line.tickets[0].rows <= room):
            ticket = self._remove(line, line.tickets[0])
            # whoever could not be answered in time would only make those behind late as well
            hopeless = bool(line.tickets) and ticket.is_late(now + line.seconds)
            if hopeless or ticket.is_late(now):
                ticket.give_up(deadline_exceeded())
                continue
            if not ticket.is_wanted():
                ticket.give_up(_abandoned())
                continue
            together.append(ticket)
            room -= ticket.rows
        return together

    def _remove(self, line: Line, ticket: _Ticket) -> _Ticket:
        line.tickets.remove(ticket)
        line.rows -= ticket.rows
        self._waiting -= 1
        if not line.tickets:
            self._lines.remove(line)
        return ticket

    def _wait(self, line: Line, ticket: _Ticket) -> None:
        """Return when it is the ticket's turn, or when it is answered, or late."""
        while not ticket.is_settled:
            ticket.event.wait(ticket.seconds_to_wait(time.monotonic()))
            if ticket.is_settled:
                return
            with self._lock:
                if ticket.is_settled:
                    return
                ticket.event.clear()
                now = time.monotonic()
                if ticket.is_late(now):
                    # It may be part of a run already: that answer would come too late.
                    if ticket in line.tickets:
                        self._remove(line, ticket)
                    ticket.settle(error=deadline_exceeded())
                    return
                self._call_next(now)

    def _run(self, line: Line, together: Sequence[_Ticket]) -> None:
        """Run for all of `together`, in the thread of the first, and pass the turn on."""
        began = time.monotonic()
        try:
            answers = line.run_together([ticket.inputs for ticket in together])
            failure = None
        except BaseException as error:
            answers, failure = [], error
        with self._lock:
            line.seconds += (time.monotonic() - began - line.seconds) * _NEWEST_SHARE
            self._free += 1
            self._call_next(time.monotonic())
            for place, ticket in enumerate(together):
                if failure is None:
                    ticket.settle(outputs=answers[place])
                else:
                    ticket.settle(error=_own(failure))
        for ticket in together:
            ticket.event.set()


class Line:
    """Requests that may run together; `run_together` gets up to `most_rows` rows of them.

    Without `most_rows` above one, every request runs alone. A line with `patience` (seconds) holds
    its requests back that long for others to come, unless `most_rows` are there.
    """

    def __init__(
        self,
        run_together: RunTogether,
        *,
        most_rows: int = 1,
        most_waiting_rows: int = 0,
        patience: float = 0.0,
    ) -> None:
        self.run_together = run_together
        self.most_rows = most_rows
        self.most_waiting_rows = most_waiting_rows
        self.patience = patience
        # What follows is changed by Admission alone, under its lock.
        self.tickets: deque[_Ticket] = deque()
        self.rows = 0
        self.seconds = 0.0
        """What a run takes, a moving average."""

    def is_ready(self, now: float) -> bool:
        """Tell whether the first request need not wait for more to come."""
        return self.rows >= self.most_rows or self.tickets[0].arrived + self.patience <= now


class _Ticket:
    """One request that waits, runs, or is answered."""

    def __init__(
        self, inputs: Arrays, *, rows: int, deadline: float | None, patience: float
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self.arrived = time.monotonic()
        self.is_wanted = asker_is_there.get()
        self.event = threading.Event()
        self.together: Sequence[_Ticket] | None = None
        """Set when the turn has come, for the one who runs: all that run with it."""
        self.outputs: Arrays | None = None
        self.error: BaseException | None = None
        self._patient_until = self.arrived + patience
        self._watches = False

    @property
    def is_settled(self) -> bool:
        """Tell whether there is nothing more to wait for."""
        return self.together is not None or self.outputs is not None or self.error is not None

    def is_late(self, now: float) -> bool:
        """Tell whether the deadline has passed."""
        return self.deadline is not None and self.deadline <= now

    def settle(self, *, outputs: Arrays | None = None, error: BaseException | None = None) -> None:
        """Keep the answer, unless there is one: who was too late has gone."""
        if self.outputs is None and self.error is None:
            self.outputs, self.error = outputs, error

    def give_up(self, error: ServingError) -> None:
        """Answer with an error, and wake the thread that waits."""
        self.settle(error=error)
        self.event.set()

    def watch(self) -> None:
        """Have the ticket's thread look again when its patience ends."""
        if not self._watches:
            self._watches = True
            self.event.set()

    def seconds_to_wait(self, now: float) -> float | None:
        """Return the time until the ticket's thread must look again; None is for ever."""
        times = [] if self.deadline is None else [self.deadline]
        if self._watches and now < self._patient_until:
            times.append(self._patient_until)
        return max(0.0, min(times) - now) if times else None


class AdmittedRunner:
    """A runner whose requests wait for their turn and run one by one."""

    def __init__(self, runner: Runner, *, admission: Admission) -> None:
        self._runner = runner
        self._admission = admission
        self._line = Line(lambda inputs: [runner.run(arrays) for arrays in inputs])

    def run(self, inputs: Arrays, *, deadline: float | None = None) -> Arrays:
        """Return the runner's outputs; raises ServingError, also for a full line or a deadline."""
        return self._admission.run(self._line, inputs, deadline=deadline)

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()


def _abandoned() -> ServingError:
    return ServingError(grpc.StatusCode.CANCELLED, "The client has gone.")


def _own(error: BaseException) -> BaseException:
    """Return an error for one of several requests: a traceback belongs to one thread."""
    return ServingError(error.code, str(error)) if isinstance(error, ServingError) else error
