"""Tandem's ranker as contenders: as it is by default, one task at a time, and other choices."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from interactions.candidates import Candidates, Exposures
from interactions.config import TaskConfig
from interactions.split import RANKING, RETRIEVAL
from ranking.config import RankingConfig
from ranking.model import RETRIEVAL as CHOICE
from ranking.ordering import choose_order
from ranking.scoring import Order, Scorer, readable
from ranking.training import Examples, fit_ranker
from tandem.system import ranker_inputs

_NEXT_TO_NOTHING = 1e-6
"""Weight of the retrieval task, which every ranker has, where another is learned alone."""

_NO_LIMIT = 24 * 60.0
"""Minutes: validation ends each training, so that a busy machine changes no figure."""


@dataclass(frozen=True)
class _Trained:
    """A ranker, and what it was validated on."""

    scorer: Scorer
    validation: Examples
    rows: int

    def order(self, config: RankingConfig, *, seed: int) -> Order:
        """Learn the order on validation, or take the configured one."""
        lists = self.validation.candidates
        found = self.scorer.predict(lists.queries, lists.item, lists.retrieval_score)
        return choose_order(
            self.scorer.ranker,
            lists,
            found,
            weights=None if config.order == "auto" else config.order,
            telling=self.validation.exposures.telling,
            seed=seed,
        )

    def answer(self, part: Part, order: Order | None = None) -> Answers:
        """Predict the part's exposures, and order its candidates; by the choice without `order`."""
        lists, shown = part.candidates, part.exposures
        found = self.scorer.predict(lists.queries, lists.item, lists.retrieval_score)
        alone = self.scorer.predict(
            shown.queries, shown.queries.item[:, np.newaxis], shown.retrieval_score[:, np.newaxis]
        )
        tasks = {t: c for t, c in self.scorer.ranker.tasks.items() if t != CHOICE}
        return Answers(
            order=found[CHOICE] if order is None else order.score(found).numpy(),
            choice=found[CHOICE],
            tasks={t: readable(c, alone[t][:, 0]).numpy() for t, c in tasks.items()},
            served={t: readable(c, found[t]).numpy() for t, c in tasks.items()},
        )


def _train(
    problem: Problem, tasks: Mapping[str, TaskConfig], config: RankingConfig, *, seed: int
) -> _Trained:
    """Train `tasks` as `tandem fit` trains the ranker that it ships.

    What earlier labels say of all tasks is known whichever are learned, as it is to everybody else.
    Where the choice counts next to nothing, lists are one candidate wide: they make the same steps.
    """
    faint = tasks[CHOICE].weight == _NEXT_TO_NOTHING
    data = replace(problem.data, config=problem.data.config.model_copy(update={"ranking": config}))
    now = data.past(RETRIEVAL, RANKING)
    training, validation = (
        Examples(
            _narrow(part.candidates) if faint else part.candidates,
            _of_tasks(part.exposures, tasks),
            past,
            data.log.weight,
        )
        for part, past in (
            (problem.training, data.past(RETRIEVAL)), (problem.validation, now),
        )
    )  # fmt: skip
    encoded = problem.encoded
    with tempfile.TemporaryDirectory() as folder:
        ranker, progression = fit_ranker(
            replace(ranker_inputs(data, encoded), tasks=dict(tasks)),
            training,
            validation=validation,
            histories=data.histories,
            context=encoded.context,
            config=config,
            folder=Path(folder) / "ranker",
            seed=seed,
        )
    ranker.past.replace(now)
    scorer = Scorer(ranker, histories=data.histories, context=encoded.context)
    cells = int((training.candidates.item >= 0).sum()) + len(training.exposures)
    return _Trained(scorer, validation, cells * progression.epoch)


def _narrow(lists: Candidates) -> Candidates:
    """Keep the first candidate of each list."""
    columns = (lists.item, lists.retrieval_score, lists.log_weight)
    return Candidates(lists.queries, *(values[:, :1] for values in columns))


def _of_tasks(exposures: Exposures, tasks: Mapping[str, TaskConfig]) -> Exposures:
    """Leave out labels of other tasks, and exposures that have no other label.

    Those stay, as in `exposures_of`, where a task is corrected for which exposures have a label.
    """
    labels = {task: values for task, values in exposures.labels.items() if task in tasks}
    some = np.full(len(exposures), any(task.selection != "none" for task in tasks.values()))
    for values in labels.values():
        some |= ~np.isnan(values)
    queries, score = exposures.queries.take(some), exposures.retrieval_score[some]
    return Exposures(queries, score, {task: values[some] for task, values in labels.items()})


def _config(problem: Problem, changes: Mapping[str, Any], *, quick: bool) -> RankingConfig:
    content = problem.data.config.ranking.model_dump() | dict(changes)
    content["max_minutes"] = _NO_LIMIT
    if quick:
        content["schedule"] |= {"max_epochs": 2}
    return RankingConfig.model_validate(content)


def _joint(changes: Mapping[str, Any], selection: str | None = None) -> Any:
    def fit(problem: Problem, seed: int, quick: bool) -> Fitted:
        started = time.perf_counter()
        config = _config(problem, changes, quick=quick)
        tasks = problem.data.config.trained_tasks
        if selection is not None:
            tasks = {
                name: task.model_copy(update={"selection": selection})
                if task.kind == "regression"
                else task
                for name, task in tasks.items()
            }
        trained = _train(problem, tasks, config, seed=seed)
        order = trained.order(config, seed=seed)
        seconds, notes = time.perf_counter() - started, {"order": dict(order.weights)}
        return Fitted(lambda part: trained.answer(part, order), seconds, trained.rows, notes)

    return fit


def _fit_single_tasks(problem: Problem, seed: int, quick: bool) -> Fitted:
    """One ranker per task, each of the default shape; each answers for its own task alone."""
    started = time.perf_counter()
    config = _config(problem, {}, quick=quick)
    tasks = problem.data.config.trained_tasks
    trained = {CHOICE: _train(problem, {CHOICE: tasks[CHOICE]}, config, seed=seed)}
    faint = tasks[CHOICE].model_copy(update={"weight": _NEXT_TO_NOTHING})
    for task in tasks.keys() - {CHOICE}:
        alone = tasks[task].model_copy(update={"given": None})
        trained[task] = _train(problem, {CHOICE: faint, task: alone}, config, seed=seed)

    def answer(part: Part) -> Answers:
        result = trained[CHOICE].answer(part)
        for task, one in trained.items():
            if task != CHOICE:
                own = one.answer(part)
                result = replace(
                    result,
                    tasks={**result.tasks, task: own.tasks[task]},
                    served={**result.served, task: own.served[task]},
                )
        return result

    rows = sum(one.rows for one in trained.values())
    return Fitted(answer, time.perf_counter() - started, rows)


def _variant(title: str, note: str, **changes: Any) -> Contender:
    return Contender(title, note, _joint(changes), seeded=True, changes=changes)


def _experts(title: str, name: str) -> Contender:
    """The layers that the default's towers have, in experts instead."""
    layers = RankingConfig().tower_dims
    note = f"experts: {name}, hidden_dims: {list(layers)}, tower_dims: []"
    return _variant(title, note, experts=name, hidden_dims=layers, tower_dims=())


def _corrected(title: str, selection: str) -> Contender:
    note = f"selection: {selection} of the rating"
    return Contender(title, note, _joint({}, selection), seeded=True, selection=selection)


OURS = _variant("Tandem", "the defaults, trained as `tandem fit` trains the ranker that it ships")
SINGLE_TASK = Contender(
    "Tandem, single tasks",
    "a ranker of the default shape for each task, learned alone, with the inputs of the joint one; "
    "the order is that of the retrieval task's",
    _fit_single_tasks,
    seeded=True,
)
SHARED_BOTTOM = _experts("shared bottom", "shared_bottom")
MMOE = _experts("MMoE, no towers", "mmoe")
PLE = _experts("PLE, no towers", "ple")
UNCERTAINTY = _variant("uncertainty weighting", "balance: uncertainty", balance="uncertainty")
GRADNORM = _variant("GradNorm", "balance: gradnorm", balance="gradnorm")
PCGRAD = _variant("PCGrad", "balance: pcgrad", balance="pcgrad")
INVERSE_PROPENSITY = _corrected("inverse propensity", "inverse_propensity")
DOUBLY_ROBUST = _corrected("doubly robust", "doubly_robust")
