"""95 % bootstrap intervals that resample clusters: a user's queries are not independent.

Where a model was trained at several seeds, they are resampled too, independently of the users (Owen
2007, "The pigeonhole bootstrap"): users and seeds are both a sample of what might have been. With
few seeds the interval is somewhat too short still, as a variance over n instead of n - 1 is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics import (
    absolute_errors,
    calibration_error,
    log_loss,
    log_losses,
    mae,
    rmse,
    squared_errors,
)

CELLS = 4_000_000
"""Most draws held in memory at once."""

Statistic = Callable[..., float]
"""fn(*arrays [n], weights=[n]) -> float, where a weight of 2 counts the row twice."""


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval and the number of queries or rows behind it.

    The ends are NaN where nothing can be said, as with a single cluster.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class _Clusters:
    """Which cluster every row belongs to."""

    code: np.ndarray
    """[n] int64."""
    count: int

    @classmethod
    def of(cls, clusters: np.ndarray | None, n: int) -> _Clusters:
        if clusters is None:
            return cls(np.arange(n), n)
        if len(clusters) != n:
            raise ValueError(f"clusters has {len(clusters)} entries for {n} values; give one each")
        distinct, code = np.unique(clusters, return_inverse=True)
        return cls(code, len(distinct))

    def draws(self, seed: int, resamples: int) -> Iterator[np.ndarray]:
        """Yield how often each cluster is drawn, [some resamples, clusters] float64."""
        random = np.random.default_rng(seed)
        block = max(1, CELLS // max(self.count, 1))
        for start in range(0, resamples, block):
            rows = min(block, resamples - start)
            drawn = random.integers(0, self.count, size=(rows, self.count))
            drawn += np.arange(rows)[:, None] * self.count
            counts = np.bincount(drawn.ravel(), minlength=rows * self.count)
            yield counts.reshape(rows, self.count).astype(np.float64)

    def resampled_sums(self, columns: np.ndarray, seed: int, resamples: int) -> np.ndarray:
        """Return the sum of each column ([n, m]) in every resample, [resamples, m] float64."""
        sums = np.stack(
            [np.bincount(self.code, column, minlength=self.count) for column in columns.T], axis=1
        )
        return np.concatenate([counts @ sums for counts in self.draws(seed, resamples)])


def mean_intervals(
    values: Mapping[str, np.ndarray],
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> dict[str, Estimate]:
    """Return the mean of each named array ([Q] float) with its interval, on shared resamples.

    The percentile bootstrap (Efron and Tibshirani, 1993, chapter 13) over `clusters` ([Q] of any
    kind, the user of each query; every query its own where left out). Raises ValueError for NaN.
    """
    if not values:
        return {}
    columns = {name: _clean(name, column) for name, column in values.items()}
    n = len(next(iter(columns.values())))
    if any(len(column) != n for column in columns.values()):
        raise ValueError("values: the arrays differ in length; give one value per query in each")
    if n == 0:
        return {name: _unknown(0) for name in columns}
    groups = _Clusters.of(clusters, n)
    if groups.count < 2:
        return {name: _unknown(n, float(column.mean())) for name, column in columns.items()}
    # [n, metrics + 1]: the last column counts the rows, as clusters differ in size.
    table = np.stack([*columns.values(), np.ones(n)], axis=1)
    sums = groups.resampled_sums(table, seed, resamples)
    return {
        name: _interval(float(column.mean()), sums[:, place] / sums[:, -1], n)
        for place, (name, column) in enumerate(columns.items())
    }


def mean_interval(
    values: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return the mean of `values` ([Q] float) with its interval; see `mean_intervals`."""
    one = mean_intervals({"values": values}, clusters=clusters, seed=seed, resamples=resamples)
    return one["values"]


def seeded_mean(
    values: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return the mean of `values` ([seeds, Q] float) with its interval over seeds and clusters."""
    ones = np.ones((1, values.shape[1]))
    return seeded_ratio(values, ones, clusters=clusters, seed=seed, resamples=resamples)


def seeded_ratio(
    first: np.ndarray,
    second: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return mean(first) / mean(second), each [its own seeds, Q] over the same queries.

    A resample draws the same clusters for both sides, and of each side's seeds, independently, as
    many as there are. NaN where the second sums to 0.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"pairs: {first.shape[1]} and {second.shape[1]} values; give the same queries"
        )
    sides = [_clean(name, side.ravel()).reshape(side.shape) for name, side in (
        ("first", first), ("second", second))]  # fmt: skip
    n = first.shape[1]
    if n == 0 or sides[1].sum() == 0:
        return _unknown(n)
    value = float(sides[0].mean() / sides[1].mean())
    groups = _Clusters.of(clusters, n)
    if groups.count < 2:
        return _unknown(n, value)
    sums = groups.resampled_sums(np.concatenate(sides).T, seed, resamples)
    drawn = _seed_shares([len(side) for side in sides], seed, resamples)
    # [resamples, seeds of both] -> [resamples, seeds] each
    parts = np.split(sums, [len(first)], axis=1)
    means = [(part * share).sum(axis=1) for part, share in zip(parts, drawn, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(value, means[0] / means[1], n)


def seeded_statistic(
    fn: Statistic,
    labels: np.ndarray,
    *sides: np.ndarray,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 200,
) -> Estimate:
    """Return the mean of fn(labels, predictions) over seeds, or the ratio of two sides' means.

    `labels` [n]; one or two sides of predictions, each [its own seeds, n]. Resampled as
    `seeded_ratio` is, `fn` computed anew each time.

    A calibration error, of one side, is a distance from what is right: noise makes it larger, and
    larger still in the resamples, and what it estimates is as much smaller. Its interval is where
    the resamples lie reflected at the value (Davison and Hinkley 1997, 5.2), by squares, as that is
    how noise adds up; it does not reach below 0, and may lie below the value. Of predictions so
    alike that they fall into one bin or two it is too short.
    """
    n = len(labels)

    def found(weights: np.ndarray, shares: Sequence[np.ndarray]) -> float:
        # seeds that were not drawn need not be asked
        means = [
            sum(share[i] * fn(labels, side[i], weights=weights) for i in np.flatnonzero(share))
            for side, share in zip(sides, shares, strict=True)
        ]
        return float(means[0] if len(means) == 1 else np.divide(means[0], means[1]))

    value = found(np.ones(n), [np.full(len(side), 1 / len(side)) for side in sides])
    groups = _Clusters.of(clusters, n)
    if groups.count < 2:
        return _unknown(n, value)
    drawn = _seed_shares([len(side) for side in sides], seed, resamples)
    every = (counts for block in groups.draws(seed, resamples) for counts in block)
    resampled = [
        found(counts[groups.code], [share[place] for share in drawn])
        for place, counts in enumerate(every)
    ]
    return _interval(value, np.array(resampled), n, distance=fn in _DISTANCES and len(sides) == 1)


def _seed_shares(seeds: Sequence[int], seed: int, resamples: int) -> list[np.ndarray]:
    """How much each seed of each side counts in each resample, [resamples, seeds] float64."""
    # a stream of its own: the clusters that are drawn depend on no number of seeds
    random = np.random.default_rng([seed, 1])
    return [random.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in seeds]


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return the mean of `first - second`, both [Q] over the same queries, with its interval."""
    first, second = _pair(first, second)
    return mean_interval(first - second, clusters=clusters, seed=seed, resamples=resamples)


def paired_ratio(
    first: np.ndarray,
    second: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return sum(first) / sum(second), both [Q] over the same queries, with its interval.

    NaN where the second sums to 0.
    """
    one_seed = (side[np.newaxis] for side in (first, second))
    return seeded_ratio(*one_seed, clusters=clusters, seed=seed, resamples=resamples)


_MEANS: dict[Statistic, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    rmse: (squared_errors, np.sqrt),
    mae: (absolute_errors, np.asarray),
    log_loss: (log_losses, np.asarray),
}
"""Statistics that are a rising function of a mean over rows: fn -> (per row, function)."""

_DISTANCES: frozenset[Statistic] = frozenset({calibration_error})
"""Statistics that noise can only make larger."""


def statistic_interval(
    fn: Statistic,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int | None = None,
) -> Estimate:
    """Return fn(labels, predictions), each [n], with its interval.

    RMSE, MAE and log loss are resampled as means (1,000 times); any other `fn`, such as AUC, is
    computed anew on every resample (200 times) and must take `weights=` [n]; of calibration errors
    see `seeded_statistic`.
    """
    if fn not in _MEANS:
        return seeded_statistic(
            fn,
            labels,
            predictions[np.newaxis],
            clusters=clusters,
            seed=seed,
            resamples=resamples or 200,
        )
    per_row, finish = _MEANS[fn]
    losses = per_row(labels, predictions)
    mean = mean_interval(losses, clusters=clusters, seed=seed, resamples=resamples or 1000)
    value, low, high = (float(end) for end in finish([mean.value, mean.low, mean.high]))
    return Estimate(value, low, high, mean.n)


def _interval(value: float, resampled: np.ndarray, n: int, *, distance: bool = False) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    if np.isnan(value) or len(known) == 0:
        return _unknown(n, value)
    low, high = (float(end) for end in np.quantile(known, [0.025, 0.975]))
    if distance:
        low, high = (float(np.sqrt(max(2 * value**2 - end**2, 0.0))) for end in (high, low))
        return Estimate(value, low, high, n)
    # Rounding, or a statistic that resampling pushes one way, must not leave the value outside.
    return Estimate(value, min(low, value), max(high, value), n)


def _unknown(n: int, value: float = float("nan")) -> Estimate:
    return Estimate(value, float("nan"), float("nan"), n)


def _clean(name: str, values: np.ndarray) -> np.ndarray:
    column = np.asarray(values, np.float64)
    missing = int(np.isnan(column).sum())
    if missing:
        raise ValueError(f"{name}: {missing} of {len(column)} values are NaN; leave those out")
    return column


def _pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second):
        raise ValueError(f"pairs: {len(first)} and {len(second)} values; give the same queries")
    return _clean("first", first), _clean("second", second)
