"""The command line. TensorFlow is imported only by the commands that need it."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from interactions.errors import UserError
from tandem.serve import serve
from tandem.wishes import wish_options, wishes

_COLUMNS = ("ndcg@10", "hit_rate@10", "recall@100", "coverage@10")


def main() -> None:
    """Run the command line; one line and exit status 2 for the user's mistakes, 1 for ours."""
    # what TensorFlow warns of is ours to look at, and would bury the one line that counts
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped; the same command goes on where it can", 130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("TANDEM_DEBUG"):
            raise
        _fail(f"{type(error).__name__}: {error} (TANDEM_DEBUG=1 shows where)", 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tandem")
def cli() -> None:
    """Two-stage recommendations: a two-tower retriever and a multi-task ranker.

    \b
    tandem demo                             everything at once, on a generated marketplace
    tandem fit CONFIG --run runs/mine       train and judge both stages
    tandem export runs/mine                 write the bundle of SavedModels
    tandem serve runs/mine/bundle           answer as TF Serving does
    tandem recommend --user 42 -k 10        ask a server
    tandem batch runs/mine/bundle --users users.parquet --out lists/
    """


@cli.command()
@click.option(
    "--run", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True
)
@click.option(
    "--preset",
    type=click.Choice(["demo", "seed"]),
    default="demo",
    show_default=True,
    help="demo: 5,000 users, 2,000 items. seed: 1,000 users, 10 items, in a minute.",
)
def demo(run: Path, preset: str) -> None:
    """Run everything on a generated marketplace, in a few minutes.

    Generates users, items and events; trains both stages; judges them beside popularity and the
    oracle that knows every true probability; exports, serves, asks over gRPC, and writes batch
    recommendations.
    """
    from tandem.demo import run_demo

    run_demo(run, preset=preset, console=_console())


@cli.command(short_help="Train and judge both stages on the data that CONFIG names.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--run", type=click.Path(path_type=Path), required=True, help="Folder for everything made."
)
def fit(config: Path, run: Path) -> None:
    """Train and judge both stages on the data that CONFIG (YAML) names.

    \b
    The shortest config:
        data:
          events: ratings.csv
          user_id: userId
          item_id: movieId

    The same command goes on with a run that was stopped.
    """
    from tandem.config import load_config

    settings = load_config(config)
    from tandem.fit import fit as fit_run
    from tandem.resources import Resources

    console = _console()
    resources = Resources(console)
    metrics = fit_run(settings, run=run, console=console, resources=resources)
    console.print(resources.table())
    _print_metrics(console, metrics)
    console.print(f"metrics, models and plots are in {run}; next: tandem export {run}")


@cli.command(short_help="Judge a finished RUN on its test window once more.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of a table.")
def evaluate(run: Path, as_json: bool) -> None:
    """Judge the models of a finished RUN on its test window once more."""
    from tandem.fit import evaluate as evaluate_run

    console = _console()
    metrics = evaluate_run(run, console=Console(quiet=True) if as_json else console)
    if as_json:
        click.echo((run / "metrics.json").read_text(), nl=False)
        return
    _print_metrics(console, metrics)
    console.print(f"metrics, slices and plots are in {run}")


@cli.command(short_help="Write the models of RUN as a bundle of SavedModels.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--items",
    type=click.Path(path_type=Path),
    help="The whole catalogue as it is now: new ids are known by their content, changed features "
    "count, and what is not in it is no longer recommended.",
)
@click.option(
    "--events",
    type=click.Path(path_type=Path),
    help="Later events: they refresh histories, seen items and popularity.",
)
@click.option(
    "--forget-users",
    type=click.Path(path_type=Path),
    help="Users to be in no table of this and all later exports: a .txt file with one id per line, "
    "or CSV or Parquet with a column user_id.",
)
@click.option("--keep", type=click.IntRange(min=1), help="How many versions stay in the bundle.")
def export(
    run: Path,
    items: Path | None,
    events: Path | None,
    forget_users: Path | None,
    keep: int | None,
) -> None:
    """Write the models of RUN as a bundle of SavedModels for TF Serving, into RUN/bundle.

    Nothing is published whose answers differ from the Python models'. Each export is a new version.
    No option trains anything; the files have the columns of the run's own, and begin from the run
    each time, not from the export before.
    """
    from tandem.publish import ExportOptions, publish

    console = _console()
    options = ExportOptions(items, events, forget_users, keep)
    bundle = publish(run, options=options, console=console)
    console.print(
        f"version {bundle.manifest.version} is in {bundle.folder}; "
        f"next: tandem serve {bundle.folder}"
    )


cli.add_command(serve)


@cli.command()
@click.option("--server", default="127.0.0.1:8500", show_default=True, metavar="HOST:PORT")
@click.option("--user", "users", multiple=True, required=True, help="A user id; may be repeated.")
@click.option(
    "-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many items."
)
@wish_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per user.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds to wait.",
)
@click.option("--tls", is_flag=True, help="Speak TLS; the next four imply it.")
@click.option("--tls-root", type=click.Path(path_type=Path), help="Who signs the server's (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The client's own key (PEM).")
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="Its certificate (PEM).")
@click.option("--tls-name", metavar="HOST", help="The name in the server's certificate.")
def recommend(
    server: str,
    users: tuple[str, ...],
    k: int,
    as_json: bool,
    timeout: float,
    tls: bool,
    tls_root: Path | None,
    tls_key: Path | None,
    tls_certificate: Path | None,
    tls_name: str | None,
    **wished: Any,
) -> None:
    """Ask a running server (ours or TF Serving) for recommendations."""
    from dataclasses import asdict

    from serving.client import ClientTls, RecommenderClient
    from tandem.show import recommendations_table

    named = ClientTls(root=tls_root, key=tls_key, certificate=tls_certificate, server_name=tls_name)
    secured = named if tls or named != ClientTls() else None
    with RecommenderClient(server, timeout=timeout, tls=secured) as client:
        answers = client.recommend(list(users), k=k, wishes=wishes(**wished))
    for answer in answers:
        if as_json:
            click.echo(json.dumps(asdict(answer), ensure_ascii=False))
        else:
            _console().print(recommendations_table(answer))


@cli.command(short_help="Write recommendations for every user of a file.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--users",
    type=click.Path(path_type=Path),
    required=True,
    help="Parquet or CSV with a column user_id.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for Parquet shards."
)
@click.option(
    "-k", default=100, show_default=True, type=click.IntRange(min=1), help="Items per user."
)
def batch(bundle: Path, users: Path, out: Path, k: int) -> None:
    """Write recommendations for every user of a file, in bounded memory.

    The same command goes on with shards that are missing.
    """
    from batch.local import batch_recommend

    console = _console()
    written = batch_recommend(bundle, users, out, k=k, console=console)
    console.print(f"recommendations for {written.users:,} users are in {out}")


def _print_metrics(console: Console, metrics: Any) -> None:
    from evaluation.report import table
    from tandem.show import exposure_tables, measured

    console.print(table(metrics, columns=measured(metrics, _COLUMNS), title="On the test window"))
    for one in exposure_tables(metrics):
        console.print(one)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=False)


def _fail(message: str, status: int) -> None:
    Console(stderr=True, width=None).print(
        f"error: {' '.join(message.split())}",
        style="red",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    sys.exit(status)
