"""The embedded server: models kept in line with their folders, behind gRPC and REST."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from interactions.errors import UserError
from serving import grpc_door
from serving.errors import ServingError
from serving.exposure_log import ExposureLog, ExposureLogOptions
from serving.loading import LoadSettings, load_model
from serving.models import LoadedModel
from serving.monitoring import Monitor, read_monitoring_config
from serving.options import ServerOptions
from serving.queueing import Queueing
from serving.rest import RestOptions, RestServer
from serving.rest_api import RestApi
from serving.rollout import LoadVersion, Repeating, Rollout, RolloutSettings
from serving.services import Services
from serving.sources import BundleCheck, ConfigSource, config_source
from serving.table import ServableTable
from serving.tls import Tls, read_ssl_config

_LOG = logging.getLogger(__name__)


class RunningServer:
    """A server that answers until it is stopped; leaving its `with` block stops it."""

    def __init__(
        self,
        server: Any,
        *,
        rest: RestServer | None,
        health: Any,
        watching: Sequence[Repeating],
        table: ServableTable,
        exposures: ExposureLog | None,
        host: str,
        port: int,
    ) -> None:
        self._server = server
        self._rest = rest
        self._health = health
        self._watching = watching
        self._table = table
        self._exposures = exposures
        self.host = host
        self.port = port

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, with a second for what is under way."""
        self.stop(grace=1.0)

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC, as a client wants it."""
        return _address(self.host, self.port)

    @property
    def rest_address(self) -> str | None:
        """HOST:PORT of REST, if there is one."""
        return None if self._rest is None else self._rest.address

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is stopped, or `timeout` seconds; return whether it was stopped."""
        return not self._server.wait_for_termination(timeout)

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, give those under way `grace` seconds, then free the models."""
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        for watch in self._watching:
            watch.stop()
        stopped = self._server.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace)
        stopped.wait()
        if self._exposures is not None:
            self._exposures.close()
        self._table.close()


def serve(
    served: ServerOptions | Path, *, grpc_port: int = 8500, host: str = "127.0.0.1"
) -> RunningServer:
    """Serve what the options say; a path is a bundle at `host` and `grpc_port` (0: a free one).

    The ports open once every model is loaded and warm. Raises UserError for a bundle or config
    that is missing or damaged, a model that cannot be loaded, and a port that is taken.
    """
    options = served
    if isinstance(options, Path):
        options = ServerOptions(bundle=options, host=host, grpc_port=grpc_port)
    source = config_source(options)
    config = source.read()
    check = None
    if options.bundle is not None:
        models = {model.name for model in config.model_config_list.config}
        check = BundleCheck(options.bundle, models=models)
    tls = read_ssl_config(options.ssl_config_file) if options.ssl_config_file else None
    _refuse_taken_port(options.host, options.grpc_port)
    monitoring = _Monitoring.of(options)
    queueing = Queueing.of(options, observer=monitoring.monitor)
    # A version that goes is swept by the garbage collector (see ServableTable), which holds all
    # requests up while it looks at TensorFlow's 350,000 objects: 0.2 seconds that this saves.
    gc.collect()
    gc.freeze()
    exposures = _exposure_log(options)
    table = ServableTable()
    rollout = Rollout(
        table, _loader(options, queueing, check=check), settings=_rollout_settings(options)
    )
    try:
        try:
            rollout.reload(config)
        except ServingError as error:
            raise source.refusal(error) from error
        if check is not None:
            check.finish()
        return _open(
            options,
            Services(table, rollout, predicted=exposures.observe if exposures else None),
            table=table,
            exposures=exposures,
            queueing=queueing,
            tls=tls,
            monitoring=monitoring,
            watch=lambda: _watch(options, rollout, source),
        )
    except BaseException:
        if exposures is not None:
            exposures.close()
        table.close()
        raise


@dataclass(frozen=True)
class _Monitoring:
    """What counts requests, and where it is read; no monitor unless one is configured."""

    monitor: Monitor | None
    path: str

    @classmethod
    def of(cls, options: ServerOptions) -> Self:
        """Return what the options ask for; raises UserError for a malformed file."""
        if options.monitoring_config_file is None:
            return cls(monitor=None, path="")
        config = read_monitoring_config(options.monitoring_config_file)
        return cls(monitor=Monitor() if config.enable else None, path=config.path)


def _open(
    options: ServerOptions,
    services: Services,
    *,
    table: ServableTable,
    exposures: ExposureLog | None,
    queueing: Queueing,
    tls: Tls | None,
    monitoring: _Monitoring,
    watch: Callable[[], Sequence[Repeating]],
) -> RunningServer:
    """Open the ports, and begin to watch."""
    server = grpc.server(
        futures.ThreadPoolExecutor(queueing.limits.threads, thread_name_prefix="grpc"),
        options=grpc_door.OPTIONS,
    )
    monitor = monitoring.monitor
    grpc_door.register(
        server, services, observe=grpc_door.unobserved if monitor is None else monitor.observe
    )
    if monitor is not None:
        monitor.watch_queue(lambda: queueing.admission.waiting)
    health = None
    if options.enable_grpc_healthcheck_service:
        health = grpc_door.register_health(server)
    if options.enable_grpc_reflection:
        grpc_door.register_reflection(server)
    port = _listen(server, host=options.host, port=options.grpc_port, tls=tls)
    try:
        rest = _open_rest(options, services, monitoring)
    except BaseException:
        server.stop(None)
        raise
    server.start()
    return RunningServer(
        server,
        rest=rest,
        health=health,
        watching=watch(),
        table=table,
        exposures=exposures,
        host=options.host,
        port=port,
    )


def _open_rest(
    options: ServerOptions, services: Services, monitoring: _Monitoring
) -> RestServer | None:
    if options.rest_api_port is None:
        return None
    settings = RestOptions(
        port=options.rest_api_port,
        host=options.host,
        threads=options.rest_api_num_threads,
        timeout_seconds=options.rest_api_timeout_in_ms / 1e3,
        cors=options.rest_api_enable_cors_support,
    )
    if monitoring.monitor is not None:
        settings = replace(settings, metrics_path=monitoring.path)
    return RestServer(RestApi(services), settings, monitor=monitoring.monitor)


def _exposure_log(options: ServerOptions) -> ExposureLog | None:
    if options.exposure_log is None:
        return None
    return ExposureLog(
        ExposureLogOptions(
            options.exposure_log,
            share=options.exposure_log_share,
            places=options.exposure_log_places,
        )
    )


def _refuse_taken_port(host: str, port: int) -> None:
    """Say before models are loaded, not after, that a port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # as servers do, so that connections that are still closing are no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(_cannot_listen(_address(host, port))) from error


def _cannot_listen(address: str) -> str:
    return (
        f"cannot listen on {address}: the port is taken or the host is not this machine's; "
        "stop what holds it, or give another --grpc-port (0 takes a free one)"
    )


def _listen(server: Any, *, host: str, port: int, tls: Tls | None) -> int:
    """Return the port that the gRPC server is bound to."""
    address = _address(host, port)
    try:
        if tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, tls.credentials())
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(_cannot_listen(address))
    return bound


def _watch(options: ServerOptions, rollout: Rollout, source: ConfigSource) -> list[Repeating]:
    """Start what looks at the version folders and the config file."""
    watching = []
    if options.file_system_poll_wait_seconds > 0:
        watching.append(
            Repeating(
                rollout.poll, interval=options.file_system_poll_wait_seconds, name="watch-versions"
            )
        )
    if options.model_config_file_poll_wait_seconds > 0:
        watching.append(
            Repeating(
                _ConfigWatch(rollout, source).look,
                interval=options.model_config_file_poll_wait_seconds,
                name="watch-config",
            )
        )
    return watching


class _ConfigWatch:
    """Reloads a config file that has changed; one that is refused is tried at every look."""

    def __init__(self, rollout: Rollout, source: ConfigSource) -> None:
        self._rollout = rollout
        self._source = source
        self._in_force = source.read()

    def look(self) -> None:
        """Read the file, and reload where it is not what was read before."""
        try:
            config = self._source.read()
            if config == self._in_force:
                return
            self._rollout.reload(config)
        except (UserError, ServingError) as error:
            _LOG.error("the config %s is not in force: %s", self._source.path, error)
            return
        self._in_force = config


def _loader(
    options: ServerOptions, queueing: Queueing, *, check: BundleCheck | None
) -> LoadVersion:
    settings = LoadSettings(
        wrap=queueing,
        warm_up=options.enable_model_warmup,
        warm_up_iterations=options.num_request_iterations_for_warmup,
        intra_op_threads=options.tensorflow_session_parallelism,
        check_method_names=options.enable_signature_method_name_check,
    )

    def load(name: str, version: int, path: Path) -> LoadedModel:
        if check is None:
            return load_model(path, name=name, version=version, settings=settings)
        check.check(name)
        try:
            return load_model(path, name=name, version=version, settings=settings)
        except ServingError:
            # that a file is damaged says better why
            check.finish()
            raise

    return load


def _rollout_settings(options: ServerOptions) -> RolloutSettings:
    return RolloutSettings(
        max_num_load_retries=options.max_num_load_retries,
        load_retry_interval=options.load_retry_interval_micros / 1e6,
        labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
