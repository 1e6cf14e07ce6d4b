"""LightGBM on columns of what the ranker knows: LambdaRank for the order, a model for each task.

`columns` says what is left out. LambdaRank learns on lists as they are served: it knows nothing of
how much a row stands for, and in the ranker's table, a sample of which the best are all and the
others few, a high retrieval score would look like a fault.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from benchmarks.ranking.baselines.columns import Columns
from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from features.backend import tf
from interactions.candidates import Candidates, Exposures
from interactions.config import TaskConfig
from interactions.split import RANKING, RETRIEVAL
from ranking.calibration import Blend, Calibrator, fit_calibrator
from ranking.model import Past, RankerInputs
from ranking.scoring import readable
from tandem.system import ranker_inputs

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
_MOST_TRAINING_LISTS = 8_000
"""Lists that LambdaRank learns on, spread over the window: 200 candidates of 80 columns each are
half a gigabyte."""
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
    found = np.flatnonzero(problem.served_training.label.any(axis=1))
    lists = _spread(problem.served_training.take(found), _MOST_TRAINING_LISTS)
    training = _lists(early, lists)
    held = _lists(late, _spread(problem.validation.candidates, _MOST_LISTS), training)
    order = _best(training, held, grid, "retrieval", seed=seed)
    del training, held
    notes: dict[str, object] = {
        "order": _said(order) | {"lists": len(lists.queries), "of": len(found)}
    }
    shown = [
        _exposed(columns, part.exposures)
        for columns, part in ((early, problem.training), (late, problem.validation))
    ]
    known = _Known.from_training(problem)
    models: dict[str, _Model] = {}
    for task in tasks:
        if tasks[task].kind == "retrieval":
            continue
        label = [p.exposures.labels[task] for p in (problem.training, problem.validation)]
        if any(np.isnan(values).all() for values in label):
            continue
        training = _labelled(shown[0], label[0], early)
        held = _labelled(shown[1], label[1], late, training)
        booster = _best(training, held, grid, tasks[task].kind, seed=seed)
        models[task] = _calibrated(booster, task, shown[1], known, problem)
        notes[task] = _said(booster)

    def answer(part: Part) -> Answers:
        lists = part.candidates
        cells = late.table(lists.queries, lists.item, lists.retrieval_score)
        flat = cells.reshape(-1, cells.shape[-1])
        exposed, asked = _exposed(late, part.exposures), part.exposures.queries
        alone = asked.item[:, np.newaxis]
        return Answers(
            order=_predict(order, flat).reshape(lists.item.shape),
            tasks={
                task: model(exposed, known.of(task, asked.user, alone))
                for task, model in models.items()
            },
            served={
                task: model(flat, known.of(task, lists.queries.user, lists.item)).reshape(
                    lists.item.shape
                )
                for task, model in models.items()
            },
        )

    return Fitted(answer, time.perf_counter() - started, notes=notes)


@dataclass(frozen=True)
class _Known:
    """What the factors of past labels expect, which a regression's calibration may blend in."""

    past: Past
    inputs: RankerInputs

    @classmethod
    def from_training(cls, problem: Problem) -> _Known:
        past = problem.data.past(RETRIEVAL, RANKING)
        return cls(past, ranker_inputs(problem.data, problem.encoded))

    def of(self, task: str, users: np.ndarray, items: np.ndarray) -> np.ndarray | None:
        """Return the expected labels of `users` [Q] and `items` [Q, C], flat; None without any."""
        if self.inputs.tasks[task].kind != "regression" or task not in self.past.factorised:
            return None
        rows = (tf.constant(values, tf.int32) for values in (users, items))
        bounds = self.inputs.bounds(task) or (-np.inf, np.inf)
        return np.clip(self.past.expected(task, *rows).numpy().ravel(), *bounds)


@dataclass(frozen=True)
class _Model:
    """The trees of a task, and what makes labels or probabilities of them."""

    booster: lightgbm.Booster
    calibrator: Calibrator
    config: TaskConfig

    def __call__(self, values: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        """Predict rows [n, columns] of which so much is `known` [n], [n] float64."""
        raw = tf.constant(_predict(self.booster, values), tf.float32)
        if isinstance(self.calibrator, Blend):
            assert known is not None, "without it there is nothing to blend"
            found = self.calibrator(raw, tf.constant(known, tf.float32))
        else:
            found = self.calibrator(raw)
        return readable(self.config, found).numpy().astype(np.float64)


def _calibrated(
    booster: lightgbm.Booster, task: str, values: np.ndarray, known: _Known, problem: Problem
) -> _Model:
    """Calibrate on validation, whose exposures have the columns `values`, as ours are."""
    shown, config = problem.validation.exposures, problem.data.config
    expected = known.of(task, shown.queries.user, shown.queries.item[:, np.newaxis])
    calibrator = fit_calibrator(
        _predict(booster, values),
        shown.labels[task],
        shown.queries.user,
        kind=config.tasks[task].kind,
        method=config.ranking.calibration,
        known=expected,
        spread=None if expected is None else known.past.spread(task, expected),
    )
    return _Model(booster, calibrator, config.tasks[task])


def _best(
    training: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    grid: tuple[Mapping[str, Any], ...],
    kind: str,
    *,
    seed: int,
) -> lightgbm.Booster:
    """Return the best model of the grid on validation."""
    found: list[tuple[float, lightgbm.Booster]] = []
    for settings in grid:
        model = lightgbm.train(
            {**_COMMON, **_OBJECTIVES[kind], **settings, "seed": seed},
            training,
            num_boost_round=_MOST_TREES,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        score = next(iter(model.best_score["valid_0"].values()))
        found.append((score if kind == "retrieval" else -score, model))
    return max(found, key=lambda one: one[0])[1]


def _lists(
    columns: Columns, lists: Candidates, reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    """Candidate lists whose chosen item is 1; padding is left out."""
    there = lists.item >= 0
    cells = columns.table(lists.queries, lists.item, lists.retrieval_score)[there]
    label = lists.label[there].astype(np.float32)
    return _dataset(cells, label, columns, group=there.sum(axis=1), reference=reference)


def _spread(lists: Candidates, most: int) -> Candidates:
    index = np.linspace(0, len(lists.queries) - 1, min(len(lists.queries), most))
    return lists.take(np.unique(index.astype(np.int64)))


def _exposed(columns: Columns, shown: Exposures) -> np.ndarray:
    """[exposures, columns]."""
    item, score = shown.queries.item[:, np.newaxis], shown.retrieval_score[:, np.newaxis]
    table = columns.table(shown.queries, item, score)
    return table.reshape(len(shown), table.shape[-1])


def _labelled(
    values: np.ndarray,
    label: np.ndarray,
    columns: Columns,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    there = ~np.isnan(label)
    return _dataset(values[there], label[there], columns, reference=reference)


def _dataset(
    values: np.ndarray,
    label: np.ndarray,
    columns: Columns,
    *,
    group: np.ndarray | None = None,
    reference: lightgbm.Dataset | None,
) -> lightgbm.Dataset:
    # the grid changes min_data_in_leaf, by which unused columns would be dropped once for all
    return lightgbm.Dataset(
        values, label, group=group, reference=reference,
        categorical_feature=list(columns.codes),
        params={"feature_pre_filter": False, "verbosity": -1},
    ).construct()  # fmt: skip


def _predict(model: lightgbm.Booster, values: np.ndarray) -> np.ndarray:
    """Scores, labels, or logits of a binary task, [n] float64."""
    found = model.predict(values, num_iteration=model.best_iteration, raw_score=True)
    return np.asarray(found, np.float64)


def _said(model: lightgbm.Booster) -> dict[str, int]:
    settings = {name: model.params[name] for name in ("num_leaves", "min_data_in_leaf")}
    return {"trees": model.best_iteration, **settings}


TREES = Contender(
    "LightGBM",
    f"LambdaRank for the order, on lists as served that hold the chosen item, at most "
    f"{_MOST_TRAINING_LISTS:,}, and a model per task; each the best of {len(GRID)} settings on "
    "validation, with early stopping, and calibrated there as ours is; no ids of users and items, "
    "no texts of users, three values of a feature that has several",
    _fit,
)
