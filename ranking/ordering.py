"""The order of a list: weights that were given, or learned on the validation window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from evaluation.trade_offs import TradeOff, plot_trade_offs
from features.backend import tf
from interactions.candidates import Candidates
from ranking.config import LOGGING_POLICY
from ranking.model import RETRIEVAL, Ranker
from ranking.order_objective import OrderObjective
from ranking.policy import Learnt, Lists, learn_weights
from ranking.scoring import Order, readable
from training.storage import write_json

_QUERIES = 1024
"""Whose candidates are looked up at once."""
_ALIKE = 1e-5
"""Logarithms that differ by less are equal but for rounding."""


def choose_order(
    ranker: Ranker,
    candidates: Candidates,
    predictions: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float] | None,
    telling: Collection[str],
    objective: OrderObjective | None = None,
    seed: int = 0,
    folder: Path | None = None,
    console: Console | None = None,
) -> Order:
    """Return the order with the given `weights`, or else with weights learned on validation.

    Args:
        ranker: whose tasks they are.
        candidates: the validation queries' candidates.
        predictions: by task, [Q, C] float, of `candidates.item`, calibrated.
        weights: by task, where the user has said how much each counts.
        telling: the tasks whose validation labels are not all alike. Of the others nobody knows how
            well they are predicted, so they do not order unless the objective names them.
        objective: what learned weights are to achieve; the defaults where left out.
        seed: of the search.
        folder: of the run: what was learned goes to `order.json`, the trade-offs to
            `plots/order.png`.
        console: told what of the objective cannot be achieved.

    Raises:
        UserError: the objective names a task that is not there, or `folder` is unwritable.
    """
    if weights is not None:
        return Order.of(ranker, weights)
    objective = objective or OrderObjective()
    tasks = {*telling, *objective.named} & {*ranker.tasks}
    lists = validation_lists(ranker, candidates, {t: predictions[t] for t in (RETRIEVAL, *tasks)})
    learnt = learn_weights(lists, objective, seed=seed)
    if console is not None:
        for line in learnt.unmet:
            console.print(f"  ranking.objective: {line}", highlight=False)
    if folder is not None:
        write_learnt(learnt, folder)
    return Order.of(ranker, learnt.chosen.weights)


def validation_lists(
    ranker: Ranker, candidates: Candidates, predictions: Mapping[str, np.ndarray]
) -> Lists:
    """Return candidates, [Q, C], with utilities and readable outcomes of `predictions`."""
    others = [task for task in ranker.tasks if task != RETRIEVAL and task in predictions]
    binary = {task for task in others if ranker.tasks[task].kind == "binary"}
    return Lists(
        user=candidates.queries.user,
        there=candidates.item >= 0,
        chosen=candidates.label,
        utility={
            task: Order.of(ranker, {task: 1.0}).score(predictions).numpy()
            for task in (RETRIEVAL, *others)
        },
        outcome={task: readable(ranker.tasks[task], predictions[task]).numpy() for task in others},
        scale={
            task: None if task in binary else float(ranker.inputs.label_std[task])
            for task in others
        },
        log_shown=_log_shown(ranker, candidates),
    )


def _log_shown(ranker: Ranker, candidates: Candidates) -> np.ndarray | None:
    """What the ranker expects of the logarithm of each candidate's propensity, [Q, C] float32.

    None where it does not know the policy, or expects the same of all.
    """
    users, items = candidates.queries.user, candidates.item
    if LOGGING_POLICY not in ranker.past.factorised or not len(users):
        return None
    parts = [
        ranker.expected(*(tf.constant(x[s : s + _QUERIES], tf.int32) for x in (users, items)))
        for s in range(0, len(users), _QUERIES)
    ]
    log_shown = np.concatenate([part[LOGGING_POLICY].numpy() for part in parts])
    known = log_shown[items >= 0]
    return log_shown if known.size and np.ptp(known) > _ALIKE else None


def write_learnt(learnt: Learnt, folder: Path) -> None:
    """Write what was learned to `order.json`, and the trade-offs as `plots/order.png`."""
    content = {
        "weights": learnt.chosen.weights,
        "maximised": list(learnt.maximised),
        "tried": len(learnt.tried),
        "ndcg": {
            "each chosen item counts": "one over the chance that it was shown"
            if learnt.by_worth
            else "1",
            "effective hits": learnt.hits,
            "share that may be lost": learnt.ndcg_cost,
            "chosen": learnt.chosen.ndcg,
            "retrieval task alone": learnt.retrieval_only.ndcg,
            "reference": learnt.reference_ndcg,
            "share taken to be lost": learnt.lost_ndcg,
        },
        "mean prediction": {
            "chosen": learnt.chosen.outcome,
            "retrieval task alone": learnt.retrieval_only.outcome,
        },
        "unmet": list(learnt.unmet),
    }
    write_json(folder / "order.json", content)
    if learnt.chosen.outcome:
        (folder / "plots").mkdir(exist_ok=True)
        plot_trade_offs(_trade_offs(learnt), folder / "plots" / "order.png")


def _trade_offs(learnt: Learnt) -> list[TradeOff]:
    """What each task's first places hold against the NDCG of the chosen items."""
    ndcg = np.array([one.ndcg for one in learnt.tried])
    marks = (("retrieval task alone", 0), ("chosen", learnt.tried.index(learnt.chosen)))
    return [
        TradeOff(
            name=task,
            across=ndcg,
            across_name="NDCG of the chosen items" + (", by worth" if learnt.by_worth else ""),
            up=np.array([one.outcome[task] for one in learnt.tried]),
            up_name=f"mean prediction of {task} in the first places",
            marks=marks,
            least_up=learnt.floors.get(task),
        )
        for task in learnt.chosen.outcome
    ]
