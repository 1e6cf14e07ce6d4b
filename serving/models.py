"""One loaded SavedModel version: TF Serving's own path, a session and the signatures' tensors."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.apis import CallableOptions, SignatureDefMap, tf
from serving.errors import ServingError, code_of, deadline_exceeded
from serving.runners import Runner, RunnerKey, WrapRunner, unwrapped

DEFAULT_SIGNATURE = "serving_default"
# A client that filters outputs gets a runner of its own; so many different ones are made.
_MOST_RUNNERS = 64


@dataclass(frozen=True)
class InputSlot:
    """An input of a signature."""

    name: str
    dtype: int
    """Number of TensorFlow's type."""
    place: int
    """Its argument's number in the graph, which TensorFlow's errors name."""


@dataclass(frozen=True)
class SignaturePlan:
    """What is looked up of a signature at every request, worked out once."""

    name: str
    definition: Any
    """The SignatureDef."""
    inputs: tuple[InputSlot, ...]
    input_names: frozenset[str]
    outputs: tuple[str, ...]
    """All names, sorted."""


class LoadedModel:
    """A SavedModel version in its own graph and session; safe to run from any thread.

    `wrap` puts what the server has around runs (queues, batching) around each runner.
    """

    def __init__(
        self,
        session: Any,
        signatures: Mapping[str, Any],
        *,
        name: str,
        version: int,
        wrap: WrapRunner = unwrapped,
        check_method_names: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = signatures
        self.check_method_names = check_method_names
        self._session: Any = session
        self._plans = {key: _plan(key, signature) for key, signature in signatures.items()}
        self._wrap = wrap
        self._runners: dict[tuple[str, tuple[str, ...]], Runner] = {}
        self._making = threading.Lock()

    def plan(self, signature_name: str) -> SignaturePlan | None:
        """Return the plan of a signature, of `serving_default` for no name; None without it."""
        return self._plans.get(signature_name or DEFAULT_SIGNATURE)

    def runner(self, plan: SignaturePlan, outputs: tuple[str, ...]) -> Runner:
        """Return the runner of a signature that gives at least `outputs` (sorted names).

        Other outputs come along where clients have asked for too many combinations of them.
        """
        runner = self._runners.get((plan.name, outputs))
        if runner is not None:
            return runner
        with self._making:
            if len(self._runners) >= _MOST_RUNNERS:
                outputs = plan.outputs
            if (plan.name, outputs) not in self._runners:
                self._runners[plan.name, outputs] = self._make_runner(plan, outputs)
            return self._runners[plan.name, outputs]

    @functools.cached_property
    def signature_map(self) -> bytes:
        """All signatures as a serialized SignatureDefMap."""
        found = SignatureDefMap()
        for name, signature in self.signatures.items():
            found.signature_def[name].CopyFrom(signature)
        return found.SerializeToString(deterministic=True)

    def close(self) -> None:
        """Free the session; no run may be under way."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._session.close()
        # The variables live as long as anything refers to the session.
        self._session = None

    def _make_runner(self, plan: SignaturePlan, outputs: tuple[str, ...]) -> Runner:
        key = RunnerKey(
            model=self.name,
            version=self.version,
            signature=plan.name,
            outputs=outputs,
            inputs=tuple(slot.name for slot in plan.inputs),
        )
        return self._wrap(GraphRunner(self._session, plan.definition, key=key), key)


class GraphRunner:
    """Runs a signature's graph in the thread of the caller, outside Python's lock."""

    def __init__(self, session: Any, signature: Any, *, key: RunnerKey) -> None:
        tensors = [signature.outputs[name].name for name in key.outputs]
        # Two outputs may be one tensor, which can be fetched only once.
        fetched = sorted(set(tensors))
        options = CallableOptions(
            feed=[signature.inputs[name].name for name in key.inputs], fetch=fetched
        )
        # The graph runs in the thread that calls: a tenth of the cost of Session.run, and like TF
        # Serving's session it leaves the check of shapes to the graph.
        options.run_options.inter_op_thread_pool = -1
        self._inputs = key.inputs
        with _GraphErrors():
            # Private, and used here only: nothing public makes a callable from options.
            self._run: Callable[..., Any] = session._make_callable_from_options(options)
        self._places = [
            (name, fetched.index(tensor)) for name, tensor in zip(key.outputs, tensors, strict=True)
        ]

    def run(
        self, inputs: Mapping[str, np.ndarray], *, deadline: float | None = None
    ) -> Mapping[str, np.ndarray]:
        """Return arrays by output name; raises ServingError with the graph's code and words."""
        if deadline is not None and time.monotonic() >= deadline:
            raise deadline_exceeded()
        with _GraphErrors():
            results = self._run(*[inputs[name] for name in self._inputs])
        return {name: _as_array(results[place]) for name, place in self._places}

    def close(self) -> None:
        """Let go of the session."""
        del self._run


class _GraphErrors:
    """Raises the graph's errors as ServingError; a class, for it costs less at every run."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Raise an error of TensorFlow's again, with its code."""
        if isinstance(error, tf.errors.OpError):
            raise ServingError(code_of(error.error_code), error.message) from error


def _plan(name: str, signature: Any) -> SignaturePlan:
    # TensorFlow numbers arguments by the sorted names of the tensors that are fed.
    inputs = sorted(signature.inputs.items(), key=lambda item: item[1].name)
    return SignaturePlan(
        name=name,
        definition=signature,
        inputs=tuple(
            InputSlot(name=key, dtype=info.dtype, place=place)
            for place, (key, info) in enumerate(inputs)
        ),
        input_names=frozenset(signature.inputs),
        outputs=tuple(sorted(signature.outputs)),
    )


def _as_array(value: Any) -> np.ndarray:
    """Return a result as an array; a scalar string comes from the session as bare bytes."""
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
