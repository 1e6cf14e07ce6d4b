"""The metrics of a run: `metrics.json`, and tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from evaluation.bootstrap import Estimate, paired_ratio
from interactions.errors import UserError

WHATS = ("popularity", "recent_popularity", "retrieval", "recommender", "oracle")
"""The rows of the table of models, in this order, where they were measured."""
ENDS = ("value", "low", "high")


class Metrics(Mapping[str, Estimate]):
    """Estimates by `<what>.<metric>`, such as `retrieval.recall@100`, in the order they came.

    The metric is what stands behind the last dot: `ranking.rating.rmse` is `rmse` of
    `ranking.rating`.
    """

    def __init__(self, estimates: Mapping[str, Estimate] | None = None):
        self._estimates = dict(estimates or {})

    def __getitem__(self, key: str) -> Estimate:
        """Return one estimate; raises KeyError for what was not measured."""
        return self._estimates[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the keys in the order they came."""
        return iter(self._estimates)

    def __len__(self) -> int:
        """Return how many metrics there are."""
        return len(self._estimates)

    def add(self, what: str, estimates: Mapping[str, Estimate]) -> None:
        """Add the metrics of one `what`; raises ValueError for one that is there already."""
        for metric, estimate in estimates.items():
            key = f"{what}.{metric}"
            if key in self._estimates:
                raise ValueError(f"{key} was measured already; add each metric once")
            self._estimates[key] = estimate

    def of(self, what: str) -> dict[str, Estimate]:
        """Return the metrics of one `what` by metric name."""
        split = {key: key.rpartition(".") for key in self._estimates}
        return {split[key][2]: one for key, one in self._estimates.items() if split[key][0] == what}

    def to_dict(self) -> dict[str, dict[str, float | int | None]]:
        """Return the content of `metrics.json`, NaN as None."""
        return {
            key: {field: _number(getattr(one, field)) for field in ENDS} | {"n": int(one.n)}
            for key, one in self._estimates.items()
        }

    def write(self, path: Path) -> None:
        """Write `metrics.json`, whole or not at all; raises UserError if it cannot be written."""
        content = self.to_dict()
        unfinished = path.with_name(path.name + ".unfinished")
        try:
            unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
            unfinished.replace(path)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); name a folder you may write to"
            ) from error

    @classmethod
    def read(cls, path: Path) -> Metrics:
        """Read what `write` wrote; raises UserError for a missing or broken file."""
        try:
            content = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read ({error.strerror}); run `tandem evaluate` first"
            ) from error
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); run `tandem evaluate` again") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: not an object of metrics; run `tandem evaluate` again")
        return cls({key: _estimate(path, key, entry) for key, entry in content.items()})


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _estimate(path: Path, key: str, entry: object) -> Estimate:
    try:
        value, low, high = (
            math.nan if entry[field] is None else float(entry[field])  # type: ignore[index]
            for field in ENDS
        )
        return Estimate(value, low, high, int(entry["n"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {key} is {entry!r}, not value, low, high and n; run `tandem evaluate` again"
        ) from error


def value_share(
    values: np.ndarray,
    oracle_values: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return the share of the oracle's value that the lists reach: a ratio of sums over queries.

    `values` and `oracle_values` [Q] float: the true value of the list shown and of the best one.
    """
    return paired_ratio(values, oracle_values, clusters=clusters, seed=seed, resamples=resamples)


def cell(estimate: Estimate | None) -> str:
    """Return an estimate as `0.123 [0.110, 0.135]`, without its interval if unknown, `-` if nan."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    if math.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _rows(
    metrics: Metrics, columns: Sequence[str], whats: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    for what in whats:
        measured = metrics.of(what)
        if any(column in measured for column in columns):
            yield what, [cell(measured.get(column)) for column in columns]


def table(
    metrics: Metrics, *, columns: Sequence[str], whats: Sequence[str] = WHATS, title: str = ""
) -> Table:
    """Return a table for the terminal: a row per `what` measured, a column per metric."""
    made = Table(title=title or None)
    made.add_column("")
    for column in columns:
        made.add_column(column, justify="right")
    for what, cells in _rows(metrics, columns, whats):
        made.add_row(what.replace("_", " "), *cells)
    return made


def markdown(metrics: Metrics, *, columns: Sequence[str], whats: Sequence[str] = WHATS) -> str:
    """Return the same table as Markdown, for a README."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for what, cells in _rows(metrics, columns, whats):
        lines.append(f"| {what.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
