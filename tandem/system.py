"""Training both stages in the order that lets nothing leak, and finding them again in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from evaluation.metrics import hits, ndcg_at
from interactions.candidates import Candidates, Exposures
from interactions.errors import UserError
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL, VALIDATION
from ranking.calibration import calibration_state, calibrators_of
from ranking.model import Past, Ranker, RankerInputs
from ranking.ordering import choose_order
from ranking.scoring import Order, Scorer
from ranking.training import Examples, fit_ranker, restore_ranker
from retrieval.candidates import sample_candidates
from retrieval.continuation import Earlier
from retrieval.model import Retriever
from retrieval.search import Searcher
from retrieval.settling import Settled, kept
from retrieval.training import TrainingData, fit_retriever, restore_retriever
from tandem.config import TandemConfig
from tandem.data import ITEM_ID, USER_ID, Data, Encoded, encode
from tandem.resources import Resources

FIRST_RETRIEVER, RETRIEVER, RANKER = "first_retriever", "retriever", "ranker"
"""Folders of a run: the retriever of window R, which makes the ranker's candidates; the one of R
and K, which is indexed; the ranker."""
FIRST_SHARE = 1 / 3
"""Most of the first stage's time that the first of its two retrievers may take: it only makes
candidates, while the other one is served."""


@dataclass(frozen=True)
class Choices:
    """What validation decided; frozen for a refit."""

    first_retriever_steps: int
    continued: bool
    """Whether the second retriever went on from the first one, which had run out of time."""
    retriever_steps: int
    settled: Settled
    """Of the retriever."""
    ranker_steps: int
    order: dict[str, float]
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By task, as `ranking.calibration.calibration_state` tells it."""


@dataclass(frozen=True)
class Trained:
    """Both stages, ready to be asked."""

    data: Data
    searcher: Searcher
    scorer: Scorer
    order: Order
    retriever_inputs: Encoded
    """What the retriever that is served gathers from."""
    ranker_inputs: Encoded
    """What the ranker gathers from."""

    @property
    def ranker(self) -> Ranker:
        """The second stage."""
        return self.scorer.ranker


def train_system(
    data: Data,
    *,
    folder: Path,
    frozen: Choices | None = None,
    resources: Resources,
    console: Console,
) -> Trained:
    """Train, or find trained in `folder`, both stages; with `frozen` choices nothing is validated.

    The retriever of window R makes the ranker's candidates for window K, so it never saw the
    ranker's labels. The retriever of R and K is the one that is indexed, judged and exported.
    Validation stops all three trainings and chooses the order. What the ranker gathers of the past
    ends with the validation window: all that is known when the test begins.
    """
    config = data.config
    if config.ranking.half_life_days is not None and not data.log.has_times:
        raise UserError(
            f"ranking.half_life_days is {config.ranking.half_life_days:g}, but the log has no "
            "times; leave it out"
        )
    windows = data.windows
    past, present = windows.rows(RETRIEVAL), windows.rows(RETRIEVAL, RANKING)
    with resources.stage("encode features"):
        early = encode(data, past, folder=folder / "features" / "retrieval_window")
        late = encode(data, present, folder=folder / "features" / "retrieval_and_ranking_windows")
    with resources.stage("train the retriever of the retrieval window"):
        first, tried = fit_retriever(
            early.retriever_inputs,
            TrainingData(data.log, past, early.context, data.repeats),
            config=config.retrieval,
            folder=folder / FIRST_RETRIEVER,
            seed=config.seed,
            validate=None if frozen else _retrieval_ndcg(data, early, past),
            steps=frozen.first_retriever_steps if frozen else None,
            settled=frozen.settled if frozen else None,
            max_minutes=config.retrieval.max_minutes * FIRST_SHARE,
            console=console,
        )
    with resources.stage("make the candidates table"):
        searcher = Searcher(first, log=data.log, context=early.context, seen_rows=past)
        training = _training_examples(data, searcher, path=folder / "candidates.parquet")
    continued = frozen.continued if frozen else tried.out_of_time
    with resources.stage("train the retriever of both windows"):
        final, learnt = fit_retriever(
            late.retriever_inputs,
            TrainingData(data.log, present, late.context, data.repeats),
            config=config.retrieval,
            folder=folder / RETRIEVER,
            seed=config.seed,
            validate=None if frozen else _retrieval_ndcg(data, late, present),
            steps=frozen.retriever_steps if frozen else None,
            settled=frozen.settled if frozen else None,
            # what is learnt of a part of the rows is learnt of them all
            earlier=Earlier(first, early.retriever_inputs, early.context) if continued else None,
            # the first may have ended late, in the middle of a validation
            max_minutes=config.retrieval.max_minutes
            - min(tried.seconds / 60, config.retrieval.max_minutes * FIRST_SHARE),
            console=console,
        )
        searcher = Searcher(final, log=data.log, context=late.context, seen_rows=present)
    with resources.stage("train the ranker"):
        now = data.past(RETRIEVAL, RANKING)
        validation = None if frozen else _validation_examples(data, searcher, now=now)
        ranker, progression = fit_ranker(
            ranker_inputs(data, early),
            training,
            validation=validation,
            histories=data.histories,
            context=early.context,
            config=config.ranking,
            folder=folder / RANKER,
            seed=config.seed,
            steps=frozen.ranker_steps if frozen else None,
            calibrators=calibrators_of(frozen.calibration) if frozen else None,
            console=console,
        )
        ranker.past.replace(now)
        scorer = Scorer(ranker, histories=data.histories, context=early.context)
        order = _order(scorer, config, validation, frozen, folder=folder, console=console)
        ranker.past.replace(data.past(RETRIEVAL, RANKING, VALIDATION))
    choices = frozen or Choices(
        tried.best_step,
        continued,
        learnt.best_step,
        kept(folder / RETRIEVER),
        progression.best_step,
        dict(order.weights),
        calibration_state(ranker.calibrators),
    )
    (folder / "choices.json").write_text(json.dumps(asdict(choices), indent=1) + "\n")
    return Trained(data, searcher, scorer, order, late, early)


def load_system(
    data: Data, *, folder: Path, trained_on: Data | None = None, offered: np.ndarray | None = None
) -> Trained:
    """Find both stages in a finished run; raises `UserError` where a checkpoint is not there.

    `trained_on` is what they learnt from, where `data` has been renewed since; `offered` [items]
    bool says which items can be recommended, all where left out.
    """
    past, present = data.windows.rows(RETRIEVAL), data.windows.rows(RETRIEVAL, RANKING)
    early = encode(data, past, folder=folder / "features" / "retrieval_window")
    late = encode(data, present, folder=folder / "features" / "retrieval_and_ranking_windows")
    retriever = restore_retriever(
        late.retriever_inputs, config=data.config.retrieval, folder=folder / RETRIEVER
    )
    ranker = restore_ranker(
        ranker_inputs(trained_on or data, early),
        past=data.past(RETRIEVAL, RANKING, VALIDATION),
        config=data.config.ranking,
        folder=folder / RANKER,
    )
    searcher = Searcher(
        retriever, log=data.log, context=late.context, seen_rows=present, offered=offered
    )
    scorer = Scorer(ranker, histories=data.histories, context=early.context)
    order = Order.of(ranker, read_choices(folder).order)
    return Trained(data, searcher, scorer, order, late, early)


def read_choices(folder: Path) -> Choices:
    """Read what validation decided in a run; raises `UserError` where it cannot be read."""
    file = folder / "choices.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if "settled" not in content:
            raise UserError(
                f"{file} is of an earlier version; train into another folder with `tandem fit`"
            )
        return Choices(**{**content, "settled": Settled(**content["settled"])})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read; remove it and go on with `tandem fit`, which writes it again"
        ) from error


def candidates_of(data: Data, searcher: Searcher, queries: Queries) -> Candidates:
    """Retrieve candidates as a served request would: the best ones, none put in by hand."""
    found = searcher.search(queries, k=data.config.ranking.candidates, seen=data.seen(queries))
    return Candidates(queries, found.item, found.score, np.zeros_like(found.score))


def exposures_of(data: Data, searcher: Searcher, window: int) -> Exposures:
    """Gather the exposures of a window that carry a label, as known when the window was over.

    Where a task is corrected for which exposures have a label, those without one tell as much.
    """
    rows = data.windows.rows(window)
    labels = data.labels(window)
    corrected = any(task.selection != "none" for task in data.config.trained_tasks.values())
    some = np.full(len(data.log), corrected)
    for values in labels.values():
        some |= ~np.isnan(values)
    rows = rows[data.log.exposure[rows] & some[rows]]
    log = data.log
    queries = Queries(rows, log.user[rows], log.time[rows], log.item[rows])
    scores = searcher.score(queries, queries.item[:, np.newaxis])[:, 0]
    return Exposures(queries, scores, {task: values[rows] for task, values in labels.items()})


def _retrieval_ndcg(data: Data, encoded: Encoded, rows: np.ndarray) -> Callable[[Retriever], float]:
    """NDCG@10 on the validation window, over the whole catalogue."""
    queries = data.queries(VALIDATION)
    seen = data.seen(queries)
    searchers: list[Searcher] = []

    def validate(retriever: Retriever) -> float:
        if searchers:
            searchers[0].refresh()
        else:
            searchers.append(
                Searcher(retriever, log=data.log, context=encoded.context, seen_rows=rows)
            )
        found = searchers[0].search(queries, k=10, seen=seen)
        k = found.item.shape[1]
        one_each = np.ones(len(queries), np.int64)
        return float(ndcg_at(hits(found.item, queries.item), one_each, k).mean())

    return validate


def _training_examples(data: Data, searcher: Searcher, *, path: Path) -> Examples:
    config = data.config.ranking
    if not path.exists():
        queries = data.queries(RANKING)
        table = sample_candidates(
            searcher,
            queries,
            seen=data.seen(queries),
            available=data.log.first_seen,
            retrieved=config.candidates,
            negatives=config.negatives,
            random_share=config.random_share,
            seed=data.config.seed,
        )
        table.save(path)
    return Examples(
        Candidates.load(path),
        exposures_of(data, searcher, RANKING),
        data.past(RETRIEVAL),
        data.log.weight,
    )


def _validation_examples(data: Data, searcher: Searcher, *, now: Past) -> Examples:
    candidates = candidates_of(data, searcher, data.queries(VALIDATION))
    return Examples(candidates, exposures_of(data, searcher, VALIDATION), now, data.log.weight)


def ranker_inputs(data: Data, encoded: Encoded) -> RankerInputs:
    """The ranker knows the ids and label scales of the retrieval window, which it did not see."""
    counted = data.statistics(RETRIEVAL)
    return RankerInputs(
        users=encoded.users,
        items=encoded.items,
        context=encoded.context.specs,
        item_id=ITEM_ID,
        user_id=USER_ID,
        tasks=data.config.trained_tasks,
        label_mean=counted.label_mean,
        label_std=counted.label_std,
        label_range=counted.label_range,
    )


def _order(
    scorer: Scorer,
    config: TandemConfig,
    validation: Examples | None,
    frozen: Choices | None,
    *,
    folder: Path,
    console: Console,
) -> Order:
    if frozen is not None or validation is None:
        assert frozen is not None, "without validation the order must be given"
        return Order.of(scorer.ranker, frozen.order)
    table = validation.candidates
    predictions = scorer.predict(table.queries, table.item, table.retrieval_score)
    weights = None if config.ranking.order == "auto" else config.ranking.order
    return choose_order(
        scorer.ranker,
        table,
        predictions,
        weights=weights,
        telling=validation.exposures.telling,
        objective=config.ranking.objective,
        seed=config.seed,
        folder=folder,
        console=console,
    )
