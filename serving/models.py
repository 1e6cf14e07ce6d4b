"""One loaded SavedModel version: TF Serving's own path, a session and the signatures' tensors."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving.apis import CallableOptions, DataType, PredictionLog, tf
from serving.errors import ServingError, code_of, failed_precondition, invalid_argument
from serving.tensors import to_array

DEFAULT_SIGNATURE = "serving_default"
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000
# A client that filters outputs gets a callable of its own; so many different ones are kept.
_CALLABLES_KEPT = 64


@dataclass(frozen=True)
class Answer:
    """The outputs of one run of a signature."""

    signature: str
    outputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Runner:
    """A prepared run: arrays in the order of `inputs` in, arrays by output name out."""

    inputs: tuple[str, ...]
    run: Callable[..., Mapping[str, np.ndarray]]


class LoadedModel:
    """A SavedModel version in its own graph and session, warmed up; safe to run from any thread.

    Raises ServingError where `path` cannot be loaded or a warm-up request fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        self._runner = functools.lru_cache(maxsize=_CALLABLES_KEPT)(self._make_runner)
        try:
            self.signatures: Mapping[str, Any] = _load(self._session, path)
            self._warm_up()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Free the session; runs that are under way end with an error."""
        self._runner.cache_clear()
        self._session.close()

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        signature_name: str = "",
        output_filter: Sequence[str] = (),
    ) -> Answer:
        """Run a signature on TensorProtos by input name; an empty name means `serving_default`.

        Raises ServingError, with TF Serving's codes, for an unknown signature (FAILED_PRECONDITION)
        and for names, types, shapes or values that do not fit (INVALID_ARGUMENT).
        """
        name = signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise failed_precondition(f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        _check_input_names(inputs, signature)
        _check_output_filter(output_filter, signature)
        try:
            runner = self._runner(name, tuple(sorted(output_filter)))
            arrays = _input_arrays(inputs, signature, order=runner.inputs)
            return Answer(signature=name, outputs=runner.run(arrays))
        except tf.errors.OpError as error:
            raise ServingError(code_of(error.error_code), error.message) from error

    def _make_runner(self, signature_name: str, output_filter: tuple[str, ...]) -> _Runner:
        signature = self.signatures[signature_name]
        inputs = tuple(sorted(signature.inputs))
        names = output_filter or tuple(sorted(signature.outputs))
        tensors = [signature.outputs[name].name for name in names]
        # Two outputs may be one tensor, which can be fetched only once.
        fetched = sorted(set(tensors))
        options = CallableOptions(
            feed=[signature.inputs[name].name for name in inputs], fetch=fetched
        )
        # The graph runs in the thread that calls, outside Python's lock: a tenth of the cost of
        # Session.run, and like TF Serving's session it leaves the check of shapes to the graph.
        options.run_options.inter_op_thread_pool = -1
        # Private, and used here only: nothing public makes a callable from options.
        run_session = self._session._make_callable_from_options(options)
        places = {name: fetched.index(tensor) for name, tensor in zip(names, tensors, strict=True)}

        def run(arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
            results = run_session(*arrays)
            return {name: _as_array(results[place]) for name, place in places.items()}

        return _Runner(inputs=inputs, run=run)

    def _warm_up(self) -> None:
        """Replay the requests recorded with the model, so that the first user does not wait."""
        path = self.path / WARMUP_FILE
        if not path.is_file():
            return
        for number, log in enumerate(_warmup_logs(path)):
            if number >= MOST_WARMUP_RECORDS:
                raise invalid_argument(
                    "Number of warmup records exceeds the maximum "
                    f"({MOST_WARMUP_RECORDS}) at {path}"
                )
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise invalid_argument(f"warm-up record {number} at {path} is a {kind}")
            request = log.predict_log.request
            self.predict(
                request.inputs,
                signature_name=request.model_spec.signature_name,
                output_filter=request.output_filter,
            )


def _load(session: Any, path: Path) -> Mapping[str, Any]:
    """Load `path` into `session` and return its SignatureDefs by name."""
    level = logging.getLogger("tensorflow").level
    try:
        # The loader is TF Serving's own; TensorFlow warns that newer code has another.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        with session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.loader.load(
                session, [tf.saved_model.SERVING], str(path)
            )
    except tf.errors.OpError as error:
        raise ServingError(code_of(error.error_code), error.message) from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise failed_precondition(f"{path} is not a SavedModel: {error}") from error
    finally:
        logging.getLogger("tensorflow").setLevel(level)
    return dict(meta_graph.signature_def)


def _warmup_logs(path: Path) -> Iterable[Any]:
    """Return the PredictionLogs in the TFRecord file `path`."""
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield PredictionLog.FromString(record)
    except tf.errors.DataLossError as error:
        raise ServingError(
            code_of(error.error_code),
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from error
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record from {path}") from error


def _check_input_names(inputs: Mapping[str, Any], signature: Any) -> None:
    sent, wanted = set(inputs), set(signature.inputs)
    missing = wanted - sent - set(signature.defaults)
    extra = sent - wanted
    if not missing and not extra:
        return
    raise invalid_argument(
        f"input size does not match signature: {len(sent)}!={len(wanted)} "
        f"len({_braced(sent)}) != len({_braced(wanted)}). "
        f"Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
    )


def _check_output_filter(output_filter: Sequence[str], signature: Any) -> None:
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_braced(signature.outputs)}."
            )
        if list(output_filter).count(name) > 1:
            raise invalid_argument(f"duplicate output tensor alias: {name}")


def _input_arrays(
    inputs: Mapping[str, Any], signature: Any, *, order: Sequence[str]
) -> list[np.ndarray]:
    """Return the arrays to feed, in the order of the names `order`."""
    arrays = []
    for place, name in enumerate(order):
        # `in` first: a map of protobuf makes the entry that it is asked for.
        tensor = inputs[name] if name in inputs else signature.defaults[name]
        expected = signature.inputs[name].dtype
        try:
            array = to_array(tensor)
        except ValueError as error:
            raise invalid_argument(f"tensor parsing error: {name}") from error
        if tensor.dtype != expected:
            raise invalid_argument(
                f"Expects arg[{place}] to be {_type_name(expected)} "
                f"but {_type_name(tensor.dtype)} is provided"
            )
        arrays.append(array)
    return arrays


def _as_array(value: Any) -> np.ndarray:
    """Return a result as an array; a scalar string comes from the session as bare bytes."""
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _type_name(number: Any) -> str:
    """Return TensorFlow's own word for a type: float, double, string, int64."""
    return DataType.Name(number).removeprefix("DT_").lower()


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
