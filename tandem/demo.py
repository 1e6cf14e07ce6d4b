"""`tandem demo`: the whole way on a generated marketplace, in one go."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from batch.local import batch_recommend
from evaluation.report import Metrics, table
from interactions.log import NEVER
from interactions.marketplace import PRESETS, generate
from serving.client import RecommenderClient
from serving.server import serve
from tandem.config import TandemConfig, parse_config
from tandem.fit import config_of, fit, load_run
from tandem.publish import publish_system
from tandem.resources import Resources
from tandem.show import exposure_tables, history_table, measured, recommendations_table
from tandem.system import Trained

COLUMNS = ("ndcg@10", "hit_rate@10", "recall@100", "value_share")


def run_demo(run: Path, *, preset: str, console: Console) -> Metrics:
    """Generate, fit, judge, export, serve, ask over gRPC and write a batch, all into `run`."""
    resources = Resources(console)
    with resources.stage(f"generate the marketplace `{preset}`"):
        config = _generate(run / "marketplace", preset=preset)
    metrics = fit(config, run=run, console=console, resources=resources)
    trained = load_run(run, console=Console(quiet=True))
    with resources.stage("export the bundle"):
        bundle = publish_system(trained, run=run, metrics=metrics, console=console)
    user, titles = _lively_user(trained), _titles(trained)
    k = min(10, config.export.max_k)
    with (
        resources.stage("serve the bundle and ask it over gRPC"),
        serve(bundle.folder, grpc_port=0) as server,
        RecommenderClient(server.address) as client,
    ):
        answer = client.recommend([user], k=k)[0]
    with resources.stage("write batch recommendations"):
        users = run / "users.parquet"
        pq.write_table(
            pa.table({"user_id": pa.array(trained.data.log.user_ids, pa.string())}), users
        )
        # a demo run once more has a new bundle; the lists of the one before do not mix with its
        shutil.rmtree(run / "batch", ignore_errors=True)
        batch_recommend(bundle.folder, users, run / "batch", k=k, console=console)
    resources.write(run / "resources.json")
    console.print(resources.table())
    console.print(table(metrics, columns=measured(metrics, COLUMNS), title="On the test window"))
    for one in exposure_tables(metrics):
        console.print(one)
    console.print(history_table(user, _history(trained, user), titles))
    console.print(recommendations_table(answer, titles=titles))
    _say_where(run, bundle.folder, console)
    return metrics


def _generate(folder: Path, *, preset: str) -> TandemConfig:
    """Write the marketplace, unless the run has it, and return the config of the demo."""
    if (folder.parent / "config.yaml").exists() and (folder / "world.npz").exists():
        return config_of(folder.parent)
    market = generate(PRESETS[preset])
    market.write(folder)
    content = {
        "data": market.data_config(),
        "tasks": market.tasks_config(),
        # its users have tastes, not sequences: a mean is as good as the transformer, and faster
        "retrieval": {"encoder": "mean", "history": 50},
    }
    return parse_config(content, base=folder.resolve())


def _lively_user(trained: Trained) -> str:
    """The user with the most chosen events in the test window, whose list is worth a look."""
    log, windows = trained.data.log, trained.data.windows
    rows = np.flatnonzero(log.chosen & (windows.window == windows.window.max()))
    return str(log.user_ids[np.bincount(log.user[rows]).argmax()])


def _history(trained: Trained, user_id: str, *, length: int = 8) -> list[str]:
    log = trained.data.log
    row = np.flatnonzero(log.user_ids == user_id)
    history = trained.data.histories.before(row, np.array([NEVER]), length=length)
    items = history.items[0, : history.count[0]][::-1]
    return [str(log.item_ids[item]) for item in items]


def _titles(trained: Trained) -> Mapping[str, str]:
    log = trained.data.log
    if "title" not in log.item_table.column_names:
        return {}
    return dict(zip(log.item_ids, log.item_table["title"].to_pylist(), strict=True))


def _say_where(run: Path, bundle: Path, console: Console) -> None:
    for what, where in {
        "metrics": run / "metrics.json",
        "plots": run / "plots",
        "TensorBoard logs": f"tensorboard --logdir {run}",
        "models for TF Serving": bundle,
        "batch recommendations": run / "batch",
        "ask again": f"tandem serve {bundle}  and  tandem recommend --user ID",
    }.items():
        console.print(f"{what}: {where}", highlight=False)
