"""Metrics as pure functions: of ranked lists per query, and of predictions per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from interactions.errors import UserError
from interactions.ragged import Ragged, entries_of

SMALLEST_PROBABILITY = 1e-7
"""Predicted probabilities are clipped to this far from 0 and 1, about float32's precision."""


# ---- ranked lists -------------------------------------------------------------------------------


def hits(ranked: np.ndarray, relevant: np.ndarray | Ragged) -> np.ndarray:
    """Say which places of the lists hold a relevant item.

    `ranked` [Q, K] int: item rows, -1 where a list ended early. `relevant` [Q] int: the one true
    item of each query, -1 where the catalogue does not have it (never hit); or one list per query.
    Returns [Q, K] bool. Raises ValueError where a list holds a relevant item twice.
    """
    if isinstance(relevant, np.ndarray):
        _same_length("ranked and relevant", ranked, relevant)
        found = (ranked == relevant[:, None]) & (ranked >= 0)
        if (found.sum(axis=1) > 1).any():
            raise ValueError("ranked: a list holds its true item twice; rank each item once")
        return found
    queries = len(relevant.offsets) - 1
    if queries != len(ranked):
        raise ValueError(f"ranked has {len(ranked)} queries, relevant {queries}; give the same")
    wanted = _distinct_keys(relevant)
    # [Q, K] -> one integer per (query, item), as in _distinct_keys
    keys = np.arange(queries)[:, None] * wanted.stride + ranked
    found = np.isin(keys, wanted.keys) & (ranked >= 0) & (ranked < wanted.stride)
    if len(np.unique(keys[found])) < found.sum():
        raise ValueError("ranked: a list holds a relevant item twice; rank each item once")
    return found


def relevant_counts(relevant: np.ndarray | Ragged) -> np.ndarray:
    """Return how many distinct relevant items each query has, [Q] int64.

    A single true item counts also where the catalogue does not have it (-1): that is a miss.
    """
    if isinstance(relevant, np.ndarray):
        return np.ones(len(relevant), np.int64)
    wanted = _distinct_keys(relevant)
    return np.bincount(wanted.keys // wanted.stride, minlength=len(relevant.offsets) - 1)


def recall_at(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return the share of the relevant items found in the first k places, [Q] float64.

    `hits` [Q, K] bool, `n_relevant` [Q] int, at least 1. Raises ValueError for k > K.
    """
    return _first(hits, k).sum(axis=1) / _at_least_one(n_relevant)


def hit_rate_at(hits: np.ndarray, k: int) -> np.ndarray:
    """Return 1 where one of the first k places is a hit, else 0, [Q] float64 (`hits` [Q, K])."""
    return np.where(_first(hits, k).any(axis=1), 1.0, 0.0)


def ndcg_at(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return the normalised discounted cumulative gain of the first k places, [Q] float64.

    Gains are 0 or 1, the discount is 1 / log2(1 + place) (Järvelin and Kekäläinen, 2002, with the
    discount of Burges et al., 2005); the ideal list has all relevant items first. `hits` [Q, K]
    bool, `n_relevant` [Q] int, at least 1. Raises ValueError for k > K.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(_at_least_one(n_relevant), k) - 1]
    return _first(hits, k).astype(np.float64) @ discounts / ideal


def mrr_at(hits: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / place of the first hit, 0 without one in k places, [Q] float64 (`hits` [Q, K])."""
    first = _first(hits, k)
    return np.where(first.any(axis=1), 1.0 / (first.argmax(axis=1) + 1), 0.0)


def coverage_at(ranked: np.ndarray, k: int, catalogue: int) -> float:
    """Return the share of the `catalogue` items that any list ([Q, K] int) has in its top k."""
    shown = np.unique(_first(ranked, k))
    return float((shown >= 0).sum() / catalogue)


# ---- predictions per row ------------------------------------------------------------------------
# `weights` [n], how often each row counts, is what lets the bootstrap resample without copying.


def squared_errors(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return (prediction - label) squared, [n] float64; raises UserError for NaN."""
    return np.square(_difference(labels, predictions))


def absolute_errors(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return |prediction - label|, [n] float64; raises UserError for NaN."""
    return np.abs(_difference(labels, predictions))


def log_losses(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return minus the log of the probability given to what happened, [n] float64.

    `labels` [n] 0 or 1, `predictions` [n] probabilities; raises UserError for anything else.
    """
    _check_rows(labels, predictions, binary=True, probabilities=True)
    happened = np.where(np.asarray(labels) == 1, predictions, 1.0 - np.asarray(predictions, float))
    return -np.log(np.clip(happened, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY))


def rmse(
    labels: np.ndarray, predictions: np.ndarray, *, weights: np.ndarray | None = None
) -> float:
    """Return the root of the mean squared error over rows [n]; NaN without rows."""
    return float(np.sqrt(_mean(squared_errors(labels, predictions), weights)))


def mae(labels: np.ndarray, predictions: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Return the mean absolute error over rows [n]; NaN without rows."""
    return _mean(absolute_errors(labels, predictions), weights)


def log_loss(
    labels: np.ndarray, predictions: np.ndarray, *, weights: np.ndarray | None = None
) -> float:
    """Return the mean log loss over rows [n] (0 or 1, and probabilities); NaN without rows."""
    return _mean(log_losses(labels, predictions), weights)


def auc(labels: np.ndarray, predictions: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Return the probability that a positive row is scored above a negative one, a tie half.

    `labels` [n] 0 or 1, `predictions` [n] any scores. The area under the ROC curve in its
    Mann-Whitney form (Hanley and McNeil, 1982). NaN where only one class is there.
    """
    _check_rows(labels, predictions, binary=True)
    weights = _row_weights(labels, weights)
    order = np.argsort(predictions)
    scores, weights = np.asarray(predictions)[order], weights[order]
    positive = np.where(np.asarray(labels)[order] == 1, weights, 0.0)
    negative = weights - positive
    if not (positive.sum() > 0 and negative.sum() > 0):
        return float("nan")
    # Rows of equal score form one group, in which half of the pairs count.
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    positives, negatives = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    below = np.cumsum(negatives) - negatives
    won = (positives * (below + 0.5 * negatives)).sum()
    return float(won / (positive.sum() * negative.sum()))


@dataclass(frozen=True)
class CalibrationCurve:
    """Mean prediction and mean label in bins of about equally many rows, by rising prediction."""

    predicted: np.ndarray
    """[bins] float64."""
    observed: np.ndarray
    """[bins] float64."""
    count: np.ndarray
    """[bins] float64: rows (their weight) in the bin; empty bins are left out."""


def calibration_curve(
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    bins: int = 10,
    weights: np.ndarray | None = None,
) -> CalibrationCurve:
    """Return what was predicted beside what came, for rows [n] of any kind of label.

    Bins hold equally many rows, but equal predictions are never parted (so the curve does not
    depend on the order of the rows); raises UserError for NaN.
    """
    _check_rows(labels, predictions)
    weights = _row_weights(labels, weights)
    place = rankdata(predictions, method="min").astype(np.int64) - 1
    bin_of = place * bins // max(len(place), 1)
    count = np.bincount(bin_of, weights, minlength=bins)
    full = count > 0
    predicted = np.bincount(bin_of, weights * predictions, minlength=bins)[full] / count[full]
    observed = np.bincount(bin_of, weights * labels, minlength=bins)[full] / count[full]
    return CalibrationCurve(predicted, observed, count[full])


def calibration_error(
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    bins: int = 10,
    weights: np.ndarray | None = None,
) -> float:
    """Return the expected calibration error over bins of equal count; NaN without rows.

    The mean over rows of |mean prediction - mean label| of the row's bin (Naeini et al., 2015, with
    the equal-count bins of Nguyen and O'Connor, 2015). Noise alone makes it positive: on few rows
    it is too high.
    """
    curve = calibration_curve(labels, predictions, bins=bins, weights=weights)
    return _mean(np.abs(curve.predicted - curve.observed), curve.count)


# ---- parts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Keys:
    """The distinct (query, item) pairs of a ragged array as sorted integers."""

    keys: np.ndarray
    stride: int


def _distinct_keys(relevant: Ragged) -> _Keys:
    entries = entries_of(relevant, np.arange(len(relevant.offsets) - 1))
    if (entries.item < 0).any():
        raise ValueError("relevant: item rows must be 0 or more; leave -1 out of the lists")
    stride = int(entries.item.max(initial=0)) + 1
    return _Keys(np.unique(entries.position * stride + entries.item), stride)


def _first(lists: np.ndarray, k: int) -> np.ndarray:
    if not 1 <= k <= lists.shape[1]:
        raise ValueError(f"k={k}: the lists have {lists.shape[1]} places; rank at least k items")
    return lists[:, :k]


def _at_least_one(n_relevant: np.ndarray) -> np.ndarray:
    counts = np.asarray(n_relevant)
    if (counts < 1).any():
        raise ValueError("n_relevant: a query has no relevant item; leave such queries out")
    return counts


def _same_length(what: str, first: np.ndarray, second: np.ndarray) -> None:
    if len(first) != len(second):
        raise ValueError(f"{what} have {len(first)} and {len(second)} entries; give the same")


def _check_rows(
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    binary: bool = False,
    probabilities: bool = False,
) -> None:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    _same_length("labels and predictions", labels, predictions)
    for name, values in (("labels", labels), ("predictions", predictions)):
        missing = int(np.isnan(values).sum())
        if missing:
            raise UserError(f"{name}: {missing} of {len(values)} are NaN; leave those rows out")
    if binary and not ((labels == 0) | (labels == 1)).all():
        value = labels[(labels != 0) & (labels != 1)][0]
        raise UserError(f"labels: found {value}; a binary task's labels must be 0 or 1")
    if probabilities and not ((predictions >= 0) & (predictions <= 1)).all():
        value = predictions[(predictions < 0) | (predictions > 1)][0]
        raise UserError(f"predictions: found {value}; log loss needs probabilities from 0 to 1")


def _difference(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    _check_rows(labels, predictions)
    return np.asarray(predictions, np.float64) - np.asarray(labels, np.float64)


def _row_weights(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    weights = _row_weights(values, weights)
    total = weights.sum()
    return float(values @ weights / total) if total > 0 else float("nan")
