"""From a version folder to a model that answers: its ops, its session, its warm-up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving import inference
from serving.apis import PredictionLog, RewriterConfig, tf
from serving.errors import (
    ServingError,
    code_of,
    failed_precondition,
    invalid_argument,
    not_found,
    unimplemented,
)
from serving.models import LoadedModel
from serving.runners import WrapRunner, unwrapped

_LONGEST_WAIT = 30.0
"""Seconds that a warm-up request is tried again while the queue is full."""
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000
_SCANN_PREFIX = b"Scann>"
# a graph's optimisation takes seconds as it is loaded and makes no answer faster (decision 24)
_AS_WRITTEN = tf.compat.v1.GraphOptions(rewrite_options=RewriterConfig(disable_meta_optimizer=True))


@dataclass(frozen=True)
class LoadSettings:
    """How versions are loaded."""

    wrap: WrapRunner = unwrapped
    warm_up: bool = True
    warm_up_iterations: int = 1
    intra_op_threads: int = 0
    """Threads within one operation; 0 lets TensorFlow choose."""
    check_method_names: bool = False
    """Whether a signature answers only the method it is made for."""


def load_model(
    path: Path, *, name: str, version: int, settings: LoadSettings = LoadSettings()
) -> LoadedModel:
    """Load the SavedModel in the version folder `path` and replay its recorded requests.

    Raises ServingError where it cannot be loaded or a warm-up request fails.
    """
    _load_ops(_graph_file(path))
    session = tf.compat.v1.Session(
        graph=tf.Graph(),
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=settings.intra_op_threads, graph_options=_AS_WRITTEN
        ),
    )
    try:
        signatures = _restore(session, path)
        model = LoadedModel(
            session,
            signatures,
            name=name,
            version=version,
            wrap=settings.wrap,
            check_method_names=settings.check_method_names,
        )
    except Exception:
        session.close()
        raise
    if settings.warm_up:
        try:
            _warm_up(model, path / WARMUP_FILE, iterations=settings.warm_up_iterations)
        except Exception:
            model.close()
            raise
    return model


def _graph_file(path: Path) -> Path:
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (path / name).is_file():
            return path / name
    raise not_found(
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
        "Check that the directory exists and that you have the right permissions for accessing it."
    )


def _load_ops(graph_file: Path) -> None:
    """Register ScaNN's ops where the graph uses them; raises ServingError without the package."""
    try:
        if _SCANN_PREFIX not in graph_file.read_bytes():
            return
    except OSError as error:
        raise failed_precondition(f"{graph_file} cannot be read ({error.strerror})") from error
    try:
        import scann  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError as error:
        raise failed_precondition(
            f"{graph_file.parent} needs ScaNN's operations, and the package scann is not "
            "installed; pip install 'tandem[scann]'"
        ) from error


def _restore(session: Any, path: Path) -> Mapping[str, Any]:
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
    except OSError as error:
        raise ServingError(grpc.StatusCode.DATA_LOSS, f"{path}: {error}") from error
    except RuntimeError as error:
        # The only one of the loader's: no meta graph has the tag.
        raise not_found(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise failed_precondition(f"{path} is not a SavedModel: {error}") from error
    finally:
        logging.getLogger("tensorflow").setLevel(level)
    return dict(meta_graph.signature_def)


def _warm_up(model: LoadedModel, path: Path, *, iterations: int) -> None:
    """Replay the requests recorded with the model, so that the first user does not wait."""
    if not path.is_file():
        return
    for number, log in enumerate(_warmup_logs(path)):
        if number >= MOST_WARMUP_RECORDS:
            raise invalid_argument(
                f"Number of warmup records exceeds the maximum ({MOST_WARMUP_RECORDS}) at {path}"
            )
        for _ in range(iterations):
            _replay_in_turn(model, log)


def _replay_in_turn(model: LoadedModel, log: Any) -> None:
    """Replay a request; that the queue is full of others' is no fault of the model, and passes."""
    end = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            return _replay(model, log)
        except ServingError as error:
            if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > end:
                raise
        time.sleep(0.05)


def _replay(model: LoadedModel, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        inference.predict(model, log.predict_log.request)
    elif kind == "classify_log":
        inference.classify(model, log.classify_log.request)
    elif kind == "regress_log":
        inference.regress(model, log.regress_log.request)
    elif kind == "multi_inference_log":
        inference.multi_inference(model, log.multi_inference_log.request)
    elif kind is not None:
        number = PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise unimplemented(f"Unsupported log_type for warmup: {number}")


def _warmup_logs(path: Path) -> Iterator[Any]:
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
