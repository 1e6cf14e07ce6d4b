"""LightGBM on everything the ranker knows: LambdaRank for the order, a model for each task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from benchmarks.ranking.baselines.columns import Columns
from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from interactions.candidates import Candidates, Exposures
from interactions.split import RANKING, RETRIEVAL

GRID = (
    {"num_leaves": 15, "min_data_in_leaf": 100},
    {"num_leaves": 63, "min_data_in_leaf": 100},
    {"num_leaves": 7, "min_data_in_leaf": 500},
    {"num_leaves": 31, "min_data_in_leaf": 500},
)
"""Tried for each model of its own; the number of trees is chosen too, by early stopping."""
_COMMON = {"learning_rate": 0.05, "feature_fraction": 0.8, "verbosity": -1, "deterministic": True}
_MOST_TREES, _PATIENCE = 1_000, 40
_MOST_LISTS = 2_000
"""Validation lists on which LambdaRank is stopped and tuned, spread over the window."""
_OBJECTIVES = {
    "retrieval": {"objective": "lambdarank", "metric": "ndcg", "eval_at": [10]},
    "regression": {"objective": "regression", "metric": "rmse"},
    "binary": {"objective": "binary", "metric": "binary_logloss"},
}


def _fit(problem: Problem, seed: int, quick: bool) -> Fitted:
    started = time.perf_counter()
    early = Columns.known_from(problem, RETRIEVAL)
    late = Columns.known_from(problem, RETRIEVAL, RANKING)
    grid = GRID[:1] if quick else GRID
    tasks = problem.data.config.trained_tasks
    order, rounds = _best(
        _lists(early, problem.training.candidates),
        _lists(late, _spread(problem.validation.candidates, _MOST_LISTS)),
        grid, "retrieval", seed=seed,
    )  # fmt: skip
    notes: dict[str, object] = {"order": _said(order)}
    models: dict[str, lightgbm.Booster] = {}
    shown = [
        _exposed(columns, part.exposures)
        for columns, part in ((early, problem.training), (late, problem.validation))
    ]
    for task in tasks:
        if tasks[task].kind == "retrieval":
            continue
        sets = [
            _labelled(values, part.exposures.labels[task])
            for values, part in zip(shown, (problem.training, problem.validation), strict=True)
        ]
        if any(data.num_data() == 0 for data in sets):
            continue
        models[task], rows = _best(sets[0], sets[1], grid, tasks[task].kind, seed=seed)
        rounds += rows
        notes[task] = _said(models[task])

    def answer(part: Part) -> Answers:
        lists = part.candidates
        cells = late.table(lists.queries, lists.item, lists.retrieval_score)
        flat = cells.reshape(-1, cells.shape[-1])
        exposed = _exposed(late, part.exposures)
        return Answers(
            order=_predict(order, flat).reshape(lists.item.shape),
            tasks={task: _predict(model, exposed) for task, model in models.items()},
            served={
                task: _predict(model, flat).reshape(lists.item.shape)
                for task, model in models.items()
            },
        )

    return Fitted(answer, time.perf_counter() - started, rounds, notes)


def _best(
    training: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    grid: tuple[Mapping[str, Any], ...],
    kind: str,
    *,
    seed: int,
) -> tuple[lightgbm.Booster, int]:
    """Return the best model of the grid on validation, and how many rows were gone through."""
    found: list[tuple[float, lightgbm.Booster]] = []
    trees = 0
    for settings in grid:
        model = lightgbm.train(
            {**_COMMON, **_OBJECTIVES[kind], **settings, "seed": seed},
            training,
            num_boost_round=_MOST_TREES,
            valid_sets=[validation.set_reference(training)],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        score = next(iter(model.best_score["valid_0"].values()))
        found.append((score if kind == "retrieval" else -score, model))
        trees += model.current_iteration()
    return max(found, key=lambda one: one[0])[1], trees * training.num_data()


def _lists(columns: Columns, lists: Candidates) -> lightgbm.Dataset:
    """Candidate lists whose chosen item is 1; padding is left out."""
    there = lists.item >= 0
    cells = columns.table(lists.queries, lists.item, lists.retrieval_score)[there]
    label = lists.label[there].astype(np.float32)
    return _dataset(cells, label, group=there.sum(axis=1))


def _spread(lists: Candidates, most: int) -> Candidates:
    index = np.linspace(0, len(lists.queries) - 1, min(len(lists.queries), most))
    return lists.take(np.unique(index.astype(np.int64)))


def _exposed(columns: Columns, shown: Exposures) -> np.ndarray:
    """[exposures, columns]."""
    item, score = shown.queries.item[:, np.newaxis], shown.retrieval_score[:, np.newaxis]
    table = columns.table(shown.queries, item, score)
    return table.reshape(len(shown), table.shape[-1])


def _labelled(values: np.ndarray, label: np.ndarray) -> lightgbm.Dataset:
    there = ~np.isnan(label)
    return _dataset(values[there], label[there])


def _dataset(
    values: np.ndarray, label: np.ndarray, group: np.ndarray | None = None
) -> lightgbm.Dataset:
    # the grid changes min_data_in_leaf, by which unused columns would be dropped once for all
    return lightgbm.Dataset(
        values, label, group=group, params={"feature_pre_filter": False, "verbosity": -1},
        free_raw_data=False,
    ).construct()  # fmt: skip


def _predict(model: lightgbm.Booster, values: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(values, num_iteration=model.best_iteration), np.float64)


def _said(model: lightgbm.Booster) -> dict[str, int]:
    settings = {name: model.params[name] for name in ("num_leaves", "min_data_in_leaf")}
    return {"trees": model.best_iteration, **settings}


TREES = Contender(
    "LightGBM",
    f"LambdaRank for the order and a model per task; each the best of {len(GRID)} settings on "
    "validation, with early stopping",
    _fit,
)
