"""Tables for people: recommendations, task metrics, a user's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from evaluation.report import Metrics, cell
from serving.answers import Recommendations


def recommendations_table(
    answer: Recommendations, *, titles: Mapping[str, str] | None = None
) -> Table:
    """Show one user's recommendations, with titles by item id where there are any."""
    title = f"Recommendations for {answer.user_id}"
    if not answer.items:
        title += ": none; all was chosen before, or no item meets what was asked for"
    table = Table(title=title, title_justify="left")
    # an answer has its outputs in any order
    tasks = sorted(answer.items[0].tasks) if answer.items else []
    table.add_column("", justify="right")
    table.add_column("item")
    if titles is not None:
        table.add_column("title")
    for name in ("score", "retrieval score", *tasks):
        table.add_column(name, justify="right")
    explained = any(item.because for item in answer.items)
    if explained:
        table.add_column("because of")
    for rank, item in enumerate(answer.items, start=1):
        numbers = [item.score, item.retrieval_score, *(item.tasks[task] for task in tasks)]
        shown = [] if titles is None else [titles.get(item.item_id, "")]
        reason = [item.because] if explained else []
        table.add_row(
            str(rank), item.item_id, *shown, *(f"{number:.3f}" for number in numbers), *reason
        )
    return table


def history_table(user_id: str, items: Sequence[str], titles: Mapping[str, str]) -> Table:
    """Show what a user chose last, the latest first."""
    table = Table(title=f"What {user_id} chose last", title_justify="left")
    table.add_column("item")
    table.add_column("title")
    for item in items:
        table.add_row(item, titles.get(item, ""))
    return table


def measured(metrics: Metrics, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics to show for `columns`, in their order.

    A catalogue of ten items has no `ndcg@10`: the same metric at the largest smaller k that was
    measured stands for it; what was not measured at all is left out.
    """
    names = {key.rpartition(".")[2] for key in metrics}
    shown = []
    for column in columns:
        base, at, k = column.partition("@")
        ks = [int(name.partition("@")[2]) for name in names if name.startswith(f"{base}@")]
        smaller = [n for n in ks if at and n <= int(k)]
        if smaller or column in names:
            shown.append(f"{base}@{max(smaller)}" if smaller else column)
    return tuple(dict.fromkeys(shown))


def exposure_tables(metrics: Metrics) -> list[Table]:
    """Return what there is to show of the test window's logged exposures."""
    return [
        table for table in (tasks_table(metrics), off_policy_table(metrics)) if table is not None
    ]


def tasks_table(metrics: Metrics) -> Table | None:
    """Show how well each task is predicted on the logged exposures; None where there are none."""
    names = [key for key in metrics if key.startswith("ranking.")]
    if not names:
        return None
    table = Table(title="Tasks, on the logged exposures of the test window", title_justify="left")
    table.add_column("task")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("rows", justify="right")
    for name in names:
        _, task, metric = name.split(".", 2)
        table.add_row(task, metric.replace("_", " "), cell(metrics[name]), f"{metrics[name].n:,}")
    return table


_ESTIMATORS = ("inverse_propensity", "self_normalised", "doubly_robust")


def off_policy_table(metrics: Metrics) -> Table | None:
    """Show what an exposure earns as logged and by each order; None without propensities."""
    prefix = "off_policy."
    if not any(key.startswith(prefix) for key in metrics):
        return None
    table = Table(
        title="What an exposure earns, by what was shown in the test window", title_justify="left"
    )
    table.add_column("task")
    table.add_column("order")
    for name in (*_ESTIMATORS, "weight", "effective_rows"):
        table.add_column(name.replace("_", " "), justify="right")
    logged = metrics.of(f"{prefix}logged")
    for task in (name.removesuffix("_mean") for name in logged):
        table.add_row(task, "as logged", cell(logged[f"{task}_mean"]))
        for order in ("retrieval", "recommender", "recommender_minus_retrieval"):
            of = metrics.of(prefix + order)
            cells = [cell(of.get(f"{task}_{name}")) for name in (*_ESTIMATORS, "weight")]
            rows = of.get(f"{task}_effective_rows")
            count = "-" if rows is None else f"{rows.value:,.0f} of {rows.n:,}"
            table.add_row(task, order.replace("_", " "), *cells, count)
    return table
