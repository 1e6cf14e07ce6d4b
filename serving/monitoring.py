"""Prometheus metrics under TF Serving's names, and its text file that turns them on.

prometheus_client counts; the page is written here, because its own writer appends `_total` to the
name of every counter, which TF Serving's have not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from interactions.errors import UserError
from serving.text_protos import read_text_proto

DEFAULT_PATH = "/monitoring/prometheus/metrics"
MOST_UNKNOWN_MODELS = 100
"""Names of models that never answered and still are counted by name; they come from outside."""

_PREFIX = ":tensorflow:serving:"
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class MonitoringConfig:
    """Where the metrics are, if anywhere."""

    enable: bool = False
    path: str = DEFAULT_PATH


def read_monitoring_config(path: Path) -> MonitoringConfig:
    """Return what a text-format MonitoringConfig asks for.

    Raises UserError for a file that cannot be read or is no MonitoringConfig, and for a path that
    does not begin with a slash.
    """
    config = read_text_proto(path, _message_class()()).prometheus_config
    if config.path and not config.path.startswith("/"):
        raise UserError(
            f"{path}: the metrics' path {config.path!r} does not begin with a slash; "
            f"write {'/' + config.path!r}"
        )
    return MonitoringConfig(enable=config.enable, path=config.path or DEFAULT_PATH)


class Monitor:
    """Counts what the server does; safe to call from any thread.

    It is the `BatchObserver` of the runners, and `observe` that of the gRPC door. The batch sizes
    have TensorFlow's names (BatchResourceBase); the number of requests in line has one of ours.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}request_count", "Requests", ["model_name", "status"], registry=self.registry
        )
        self._latency = Histogram(
            f"{_PREFIX}request_latency",
            "Wall time of requests that were answered, in microseconds",
            ["model_name", "API", "entrypoint"],
            buckets=_exponential(10, 1.8, 33),
            registry=self.registry,
        )
        self._input_rows, self._batch_rows, self._padding_rows = (
            Histogram(
                f"{_PREFIX}batching:{name}", text, buckets=_exponential(1, 2, 14),
                registry=self.registry,
            )
            for name, text in (
                ("input_batch_size", "Rows of each request that ran in a batch"),
                ("processed_batch_size", "Rows of each batch, with its padding"),
                ("padding_size", "Rows of each batch that were padding"),
            )
        )  # fmt: skip
        self._queued = Gauge(
            f"{_PREFIX}queued_requests", "Requests in line", registry=self.registry
        )
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._unknown: set[str] = set()

    def request_done(
        self, model: str, *, method: str, entrypoint: str, status: str, seconds: float
    ) -> None:
        """Count a request to `model`; `status` is the name of its code, such as NOT_FOUND.

        As in TF Serving `method` is predict and the like for the entrypoint REST, Predict for GRPC,
        and only the time of requests that were answered is kept.
        """
        name = self._label(model, answered=status == "OK")
        self._requests.labels(name, status).inc()
        if status == "OK":
            self._latency.labels(name, method, entrypoint).observe(seconds * _MICROSECONDS)

    def observe(self, api: str, model: str, code: grpc.StatusCode, seconds: float) -> None:
        """Count a gRPC request; `api` is Predict and the like."""
        self.request_done(model, method=api, entrypoint="GRPC", status=code.name, seconds=seconds)

    def batch(self, *, rows: Sequence[int], padding: int, waiting: int) -> None:
        """Count a batch: the rows of each request in it, the rows added, who still waits."""
        for count in rows:
            self._input_rows.observe(count)
        self._batch_rows.observe(sum(rows) + padding)
        self._padding_rows.observe(padding)
        del waiting  # the page asks for it when it is read

    def watch_queue(self, waiting: Callable[[], float]) -> None:
        """Ask `waiting` for the number of requests in line whenever the page is read."""
        self._queued.set_function(waiting)

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format, as TF Serving writes it."""
        return ("\n".join(_lines(self.registry)) + "\n").encode()

    def _label(self, model: str, *, answered: bool) -> str:
        """Return the label of a model; too many names that nobody knows share an empty one."""
        with self._lock:
            if answered:
                self._known.add(model)
            if model in self._known or model in self._unknown:
                return model
            if len(self._unknown) >= MOST_UNKNOWN_MODELS:
                return ""
            self._unknown.add(model)
            return model


def _exponential(scale: float, growth: float, count: int) -> Sequence[float]:
    """Return the upper limits of `count` buckets; prometheus_client adds the infinite one."""
    return [scale * growth**power for power in range(count)]


def _lines(registry: CollectorRegistry) -> Iterator[str]:
    for metric in registry.collect():
        yield f"# TYPE {metric.name} {metric.type}"
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            name = sample.name.removesuffix("_total") if metric.type == "counter" else sample.name
            labels = ",".join(
                f'{key}="{_label_text(key, sample.labels[key])}"' for key in sample.labels
            )
            yield f"{name}{{{labels}}} {sample.value:.17g}"


def _label_text(key: str, value: str) -> str:
    if key == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _message_class() -> Any:
    """Return the class of MonitoringConfig, which `tensorflow-serving-api` leaves out."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tandem/monitoring_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    prometheus = file.message_type.add(name="PrometheusConfig")
    optional = proto.LABEL_OPTIONAL
    prometheus.field.add(name="enable", number=1, type=proto.TYPE_BOOL, label=optional)
    prometheus.field.add(name="path", number=2, type=proto.TYPE_STRING, label=optional)
    config = file.message_type.add(name="MonitoringConfig")
    config.field.add(
        name="prometheus_config",
        number=1,
        type=proto.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=optional,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig")
    )
