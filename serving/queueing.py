"""What lies between requests and graphs in one server: turns for all, and batching if asked for."""

from __future__ import annotations

from typing import Self

from interactions.errors import UserError
from serving.admission import (
    MOST_WAITING,
    Admission,
    AdmittedRunner,
    Limits,
    schedulable_cores,
)
from serving.batching import BatchingRunner, BatchObserver
from serving.batching_parameters import BatchingParameters, read_batching_parameters
from serving.options import ServerOptions
from serving.runners import Runner, RunnerKey


class Queueing:
    """Wraps every runner of a server (a `WrapRunner`), so that all of them share the turns."""

    def __init__(
        self,
        *,
        limits: Limits,
        batching: BatchingParameters | None = None,
        observer: BatchObserver | None = None,
    ) -> None:
        self.admission = Admission(limits)
        self._batching = batching
        self._observer = observer

    @classmethod
    def of(cls, options: ServerOptions, *, observer: BatchObserver | None = None) -> Self:
        """Return what the options ask for; raises UserError for impossible batching parameters."""
        batching = _batching(options)
        asked = batching.num_batch_threads if batching else options.tensorflow_session_parallelism
        limits = Limits(
            runs=asked or schedulable_cores(), waiting=options.max_queued_requests or MOST_WAITING
        )
        return cls(limits=limits, batching=batching, observer=observer)

    @property
    def limits(self) -> Limits:
        """How many requests run and wait; a server needs `limits.threads` threads."""
        return self.admission.limits

    def __call__(self, runner: Runner, key: RunnerKey) -> Runner:
        """Return the runner that requests use in place of `runner`."""
        del key
        if self._batching is None:
            return AdmittedRunner(runner, admission=self.admission)
        return BatchingRunner(
            runner, admission=self.admission, parameters=self._batching, observer=self._observer
        )


def _batching(options: ServerOptions) -> BatchingParameters | None:
    file = options.batching_parameters_file
    if not options.enable_batching:
        if file is not None:
            raise UserError(
                f"the batching parameters {file} are of no use without batching; "
                "add --enable_batching"
            )
        return None
    return BatchingParameters() if file is None else read_batching_parameters(file)
