"""`tandem fit` and `evaluate`: the ways in and out of a run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from evaluation.report import Metrics
from interactions.errors import UserError
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION, WINDOW_NAMES
from tandem.config import TandemConfig, dump_config, parse_config
from tandem.data import Data, read_data
from tandem.judging import judge
from tandem.resources import Resources
from tandem.system import Trained, load_system, read_choices, train_system

REFIT = "refit"
"""Folder of a run with the models trained on every window."""


def fit(
    config: TandemConfig, *, run: Path, console: Console, resources: Resources | None = None
) -> Metrics:
    """Train both stages on `config` and judge them, into the folder `run`.

    A stopped run goes on where it stood. Raises `UserError` where the folder cannot be written or
    holds a run of another config.
    """
    resources = resources or Resources(console)
    _open_run(config, run)
    with resources.stage("read, clean and split the data"):
        data = read_data(config, run=run, console=console)
    _refuse_unanswerable(data)
    _refuse_weightless(data)
    for task in config.tasks.keys() - config.trained_tasks.keys():
        console.print(f"  task {task} has weight 0: it is neither trained nor predicted")
    _say_what_is_not_learned(data, console)
    _say_what_is_not_corrected(data, console)
    _say_what_is_not_estimated(data, console)
    trained = train_system(data, folder=run, resources=resources, console=console)
    with resources.stage("evaluate on the test window"):
        metrics = judge(trained, run=run)
    if config.refit == "all":
        train_system(
            data.shifted(),
            folder=run / REFIT,
            frozen=read_choices(run),
            resources=resources,
            console=console,
        )
    resources.write(run / "resources.json")
    return metrics


def evaluate(run: Path, *, console: Console) -> Metrics:
    """Judge the models of a finished run once more."""
    return judge(load_system(_data_of(run, console), folder=run), run=run)


def shipped_data(run: Path, *, console: Console) -> Data:
    """Return the data of a finished run in the windows of the models that it ships."""
    data = _data_of(run, console)
    return data.shifted() if data.config.refit == "all" else data


def load_run(run: Path, *, console: Console) -> Trained:
    """Return the system that a run ships: the refitted one where there is one."""
    data = shipped_data(run, console=console)
    return load_system(data, folder=shipped_folder(run, data.config))


def shipped_folder(run: Path, config: TandemConfig) -> Path:
    """Return the folder of the models that a run ships."""
    return run / REFIT if config.refit == "all" else run


def config_of(run: Path) -> TandemConfig:
    """Read the expanded config of a run; raises `UserError` where `run` is none."""
    path = run / "config.yaml"
    if not path.exists():
        raise UserError(f"{run} is not a run folder (no config.yaml); make one with `tandem fit`")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parse_config(content, base=run, source=str(path))


def _data_of(run: Path, console: Console) -> Data:
    config = config_of(run)
    if not (shipped_folder(run, config) / "choices.json").exists():
        raise UserError(f"the run in {run} has not finished; go on with `tandem fit` into it")
    return read_data(config, run=run, console=console)


def _open_run(config: TandemConfig, run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        # before the data was read nothing depends on the config: a mended one may replace it
        if (run / "data").exists():
            _refuse_another_config(config, run)
        beside = run / ".config.yaml.partial"
        beside.write_text(dump_config(config), encoding="utf-8")
        beside.replace(run / "config.yaml")
    except OSError as error:
        raise UserError(
            f"the run folder {run} cannot be written ({error.strerror}); choose another with --run"
        ) from error


def _refuse_unanswerable(data: Data) -> None:
    """Refuse windows in which nobody chose anything that was not chosen before."""
    for code in (RANKING, VALIDATION, TEST):
        if not len(data.queries(code)):
            raise UserError(
                f"the {WINDOW_NAMES[code]} window has only events of items that their users had "
                "chosen before, so there is nothing to recommend; set repeats: keep, or give more "
                "data"
            )


def _refuse_weightless(data: Data) -> None:
    """Refuse windows to learn from in which no chosen event counts."""
    weight, log = data.log.weight, data.log
    if weight is None:
        return
    for code in (RETRIEVAL, RANKING, VALIDATION):
        rows = data.windows.rows(code)
        if not weight[rows[log.chosen[rows]]].any():
            raise UserError(
                f"column {data.config.data.weight!r} is 0 for every chosen event of the "
                f"{WINDOW_NAMES[code]} window, so nothing can be learned there; give some of them "
                "a weight above 0, or leave out data.weight"
            )


def _say_what_is_not_learned(data: Data, console: Console) -> None:
    """Name tasks whose labels teach the ranker nothing, though those of the whole log could."""
    rows = data.windows.rows(RANKING)
    rows = rows[data.log.exposure[rows]]
    for task, values in data.labels(RANKING).items():
        known, anywhere = (
            some[~np.isnan(some)] for some in (values[rows], data.log.labels[task].value)
        )
        # what the report says of the whole log is not said again
        if len(np.unique(known)) > 1 or len(np.unique(anywhere)) < 2:
            continue
        what = f"one value only ({known[0]:g})" if len(known) else "no label"
        console.print(
            f"  task {task} has {what} in the ranking window, which the ranker learns from, so it "
            "learns nothing of it; make split.ranking larger, or give the task weight 0",
            highlight=False,
            markup=False,
        )


def _say_what_is_not_corrected(data: Data, console: Console) -> None:
    """Name tasks that are corrected for selection though nothing was selected."""
    rows = data.windows.rows(RANKING)
    rows = rows[data.log.exposure[rows]]
    for task, config in data.config.trained_tasks.items():
        corrected = config.selection != "none"
        if corrected and len(rows) and not np.isnan(data.labels(RANKING)[task][rows]).any():
            console.print(
                f"  task {task} has a label for every exposure of the ranking window, so "
                f"selection: {config.selection} corrects nothing",
                highlight=False,
                markup=False,
            )


def _say_what_is_not_estimated(data: Data, console: Console) -> None:
    """Say where `data.propensity` is of no use."""
    chance = data.log.propensity
    if chance is None:
        return
    why = None
    if all(task.kind != "binary" for task in data.config.trained_tasks.values()):
        why = "there is no binary task whose events could be earned"
    elif np.isnan(chance[data.windows.rows(TEST)]).all():
        why = "no exposure of the test window has one"
    if why is not None:
        console.print(f"  data.propensity estimates nothing: {why}", highlight=False)
    if data.config.ranking.logging_policy and not data.knows_policy:
        console.print(
            "  data.propensity teaches ranker and order nothing: the retrieval window has next to "
            "none, or they are all alike",
            highlight=False,
        )


def _refuse_another_config(config: TandemConfig, run: Path) -> None:
    """Refuse what would change the models; how they are exported may change at any time."""
    old, new = _flat(config_of(run).model_dump()), _flat(config.model_dump())
    changed = [
        f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith("export.")
    ]
    if changed:
        raise UserError(
            f"{run} holds a run of another config: {'; '.join(changed)}; "
            "choose another folder with --run, or remove this one"
        )


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        path: value
        for key, inner in values.items()
        for path, value in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }
