"""`tandem serve`: the flags of the embedded server, by TF Serving's names, and its life."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from interactions.errors import UserError
from serving.options import ServerOptions

_SERVED = ("bundle", "model_config_file", "model_base_path")
_REST_PORT = 8501


class _Flags(click.Command):
    """Takes flags as TF Serving does: `_` is `-`, and a switch stands alone or has `=true`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name
            for option in self.params
            if isinstance(option.type, click.types.BoolParamType)
            for name in option.opts
        }
        rewritten = []
        for arg in args:
            name, equals, value = arg.partition("=")
            if name.startswith("--") and len(name) > 2:
                name = name.replace("_", "-")
                equals, value = (equals, value) if equals or name not in switches else ("=", "true")
            rewritten.append(name + equals + value)
        return super().parse_args(ctx, rewritten)


def _port(*names: str, help: str, default: int | None = None) -> Callable[..., Any]:
    kind = click.IntRange(0, 65_535)
    return click.option(*names, type=kind, default=default, show_default=True, help=help)


def _file(*names: str, help: str) -> Callable[..., Any]:
    return click.option(*names, type=click.Path(path_type=Path), help=help)


def _switch(name: str, *, help: str, default: bool = False) -> Callable[..., Any]:
    return click.option(
        name, type=click.BOOL, default=default, metavar="[=true|false]", show_default=True,
        help=help,
    )  # fmt: skip


def _count(name: str, *, help: str, default: int, least: int = 0) -> Callable[..., Any]:
    return click.option(
        name, type=click.IntRange(min=least), default=default, show_default=True, help=help
    )


def _seconds(name: str, *, help: str, default: float) -> Callable[..., Any]:
    kind = click.FloatRange(min=0)
    return click.option(name, type=kind, default=default, show_default=True, help=help)


@click.command(cls=_Flags, short_help="Answer as TF Serving does.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@_file("--model-config-file", "--model-config", help="A models.config; in place of BUNDLE.")
@_file("--model-base-path", help="One model's folder of versions; in place of BUNDLE.")
@click.option(
    "--model-name", help="The name of the model in --model-base-path.  [default: default]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens it to all.")
@_port("--grpc-port", "--port", default=8500, help="0 picks a free one.")
@_port("--rest-port", default=_REST_PORT, help="0 picks a free one.")
@_port("--rest-api-port", help="As --rest-port, but 0 is no REST, as in TF Serving.")
@_count("--rest-api-num-threads", default=32, least=1, help="Threads that answer REST requests.")
@_count("--rest-api-timeout-in-ms", default=30_000, least=1, help="Deadline of a REST request.")
@_switch("--rest-api-enable-cors-support", help="Answer browsers of other origins.")
@click.option(
    "--file-system-poll-wait-seconds",
    type=float,
    default=1.0,
    show_default=True,
    help="How often to look for new versions; 0 looks once.",
)
@_seconds(
    "--model-config-file-poll-wait-seconds",
    default=0.0,
    help="How often to read the models.config again; 0 reads it once.",
)
@_switch(
    "--allow-version-labels-for-unavailable-models",
    help="Let a label name a version that is not loaded yet.",
)
@_count("--max-num-load-retries", default=5, help="How often to try again to load a version.")
@click.option(
    "--load-retry-interval-micros",
    type=int,
    default=60_000_000,
    show_default=True,
    help="Pause before that.",
)
@_switch("--enable-model-warmup", default=True, help="Replay a model's warm-up requests.")
@_count("--num-request-iterations-for-warmup", default=1, least=1, help="How often to replay them.")
@_switch("--enable-signature-method-name-check", help="Refuse methods a signature is not for.")
@_switch("--enable-batching", help="Run requests together.")
@_file("--batching-parameters-file", help="How; a text file of BatchingParameters.")
@_count("--tensorflow-session-parallelism", default=0, help="Graphs and threads at once; 0: cores.")
@_count("--max-queued-requests", default=128, least=1, help="More that wait are refused.")
@_file("--monitoring-config-file", help="Prometheus metrics; a text file of MonitoringConfig.")
@_file("--ssl-config-file", help="TLS for gRPC; a text file of SSLConfig.")
@_switch("--enable-grpc-healthcheck-service", help="Answer gRPC health checks.")
@_switch("--enable-grpc-reflection", help="Tell gRPC clients what there is.")
@_file("--exposure-log", help="Folder for a sample of what is served, with users' ids.")
@click.option(
    "--exposure-log-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="Share of the lists that is logged.",
)
@_count("--exposure-log-places", default=10, least=1, help="Places of a list that count as shown.")
@_seconds("--drain-seconds", default=10.0, help="Time for what is under way after SIGTERM.")
def serve(rest_port: int, rest_api_port: int | None, drain_seconds: float, **given: Any) -> None:
    """Answer as TF Serving does, for the models of BUNDLE or of --model_config_file.

    Flags have TF Serving's names and may be written with _ or -. SIGTERM takes no more requests,
    answers those under way, and ends with status 0. Logs go to stderr, as JSON if that is a file.
    """
    port = rest_port if rest_api_port is None else rest_api_port or None
    _run(server_options(rest_api_port=port, **given), drain_seconds=drain_seconds)


def server_options(*, model_name: str | None = None, **given: Any) -> ServerOptions:
    """Return the options for flags by name; raises UserError for what is given twice or not."""
    served = [name for name in _SERVED if given[name] is not None]
    if len(served) != 1:
        what = " and ".join(served) or "nothing"
        raise UserError(
            f"{what} given to serve; give one of BUNDLE, --model_config_file and --model_base_path"
        )
    if model_name is not None and given["model_base_path"] is None:
        raise UserError(
            f"--model_name is {model_name}, but --model_base_path is missing; give both or neither"
        )
    if model_name is not None:
        given["model_name"] = model_name
    return ServerOptions(**given)


def _run(options: ServerOptions, *, drain_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    import structlog

    from serving.logs import configure_logs
    from serving.server import serve as start

    configure_logs()
    log = structlog.get_logger("tandem.serve")
    console = Console(width=None, soft_wrap=True)
    console.print(
        f"loading {options.bundle or options.model_config_file or options.model_base_path}"
    )
    with start(options) as server:
        # an exception, not a call of stop(): a handler that waits could wait for its own thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        console.print(
            f"serving on {server.address}; ask: tandem recommend --server {server.address} "
            "--user ID"
        )
        if server.rest_address is not None:
            console.print(f"REST on http://{server.rest_address}/v1/models/MODEL")
        log.info("serving", grpc=server.address, rest=server.rest_address)
        try:
            server.wait()
        except KeyboardInterrupt:
            # a second SIGTERM is no reason to break off; a second Ctrl-C is
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            log.info("draining", seconds=drain_seconds)
            server.stop(grace=drain_seconds)
    log.info("stopped")
    console.print("stopped")
