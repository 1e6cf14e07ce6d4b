"""Predictions as often right as they say: fitted on validation, applied as ops in every graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression, lsq_linear, minimize
from scipy.special import logit, logsumexp, softmax

from features.backend import tf
from interactions.errors import UserError
from training.storage import write_json

_LEAST_LABELS = 50
"""With fewer, or fewer of either class, predictions stay as they are."""
_FOLDS = 5
_LEAST_SCALE = 0.05
_EDGE = 1e-7
"""What a calibrated probability is away from 0 and 1 at least."""


@dataclass(frozen=True)
class Affine:
    """scale * prediction + offset: Platt 1999 on logits, a straight line on labels."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, prediction: tf.Tensor) -> tf.Tensor:
        """Calibrate logits or labels, float of any shape."""
        return self.scale * prediction + self.offset


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between the centres of an isotonic regression's blocks.

    Flat blocks would make equals of what the ranker tells apart; between their centres (Oron and
    Flournoy 2017) the order stays. Beyond the first and last centre the slope is 1.
    """

    at: tuple[float, ...]
    """Ascending."""
    value: tuple[float, ...]
    """Ascending."""

    def __call__(self, prediction: tf.Tensor) -> tf.Tensor:
        """Calibrate logits or labels, float of any shape."""
        at, value = tf.constant(self.at, tf.float32), tf.constant(self.value, tf.float32)
        flat = tf.reshape(prediction, [-1])
        inside = tf.clip_by_value(flat, at[0], at[-1])
        after = tf.clip_by_value(tf.searchsorted(at, inside), 1, max(len(self.at) - 1, 1))
        before = after - 1
        after = tf.minimum(after, len(self.at) - 1)
        width = tf.maximum(tf.gather(at, after) - tf.gather(at, before), 1e-9)
        share = (inside - tf.gather(at, before)) / width
        rise = tf.gather(value, after) - tf.gather(value, before)
        straight = tf.gather(value, before) + share * rise
        return tf.reshape(straight + flat - inside, tf.shape(prediction))


@dataclass(frozen=True)
class Blend:
    """own * prediction + known * what is known without the ranker + offset.

    Of the retrieval task the retrieval score is known, of a regression the label that the factors
    expect. The ranker learns on what an earlier retriever and fewer labels say; what it adds to the
    later ones, which know more, is less.

    Binary tasks have none: exposures show how far to trust the score there, but what is served are
    the candidates with the highest scores, and of those the blend would promise too much.
    """

    own: float = 1.0
    known: float = 0.0
    offset: float = 0.0

    def __call__(self, prediction: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Blend logits or labels with what is `known` of them, float of one shape."""
        return self.own * prediction + self.known * known + self.offset


Calibrator = Affine | Isotonic | Blend
AS_IT_IS = Affine()


def fit_calibrator(
    prediction: np.ndarray,
    label: np.ndarray,
    users: np.ndarray,
    *,
    kind: str,
    method: str,
    known: np.ndarray | None = None,
    spread: np.ndarray | None = None,
) -> Calibrator:
    """Fit how a task's predictions become what its labels are.

    Args:
        prediction: [n] float: logits of a binary task, labels of a regression.
        label: [n] float, NaN where there is none.
        users: [n] int, who each is about; `auto` judges on users that were not fitted on.
        kind: `binary` or `regression`.
        method: `none`, `platt`, `isotonic`, or `auto` for the one of least held-out loss.
        known: [n] float, the labels that a regression's factors expect: `auto` tries a blend too.
        spread: [n] float above 0, of a regression what the error of each label is about in
            proportion to; all are about as exact where None. A few large amounts would else decide
            on how all are calibrated, and by chance.
    """
    there = ~np.isnan(label)
    fits, beside = _FITS[kind], np.zeros(len(label)) if known is None else known
    if known is not None:
        fits = fits | {"blend": _blend}
    weight = np.ones(len(label)) if spread is None else spread.astype(np.float64) ** -2.0
    prediction, beside, label, weight = (
        part[there].astype(np.float64) for part in (prediction, beside, label, weight)
    )
    weight /= weight.mean() if len(weight) else 1.0
    rows, users = _Rows(prediction, beside, label, weight, kind), users[there]
    if method == "none" or not rows.enough:
        return AS_IT_IS
    if method != "auto":
        return fits[method](rows)
    fold = users % _FOLDS
    losses = {"none": rows.losses(AS_IT_IS).mean()} | {
        name: np.concatenate([rows.held_out(fit, fold == n) for n in range(_FOLDS)]).mean()
        for name, fit in fits.items()
    }
    best = min(losses, key=lambda name: losses[name])
    return AS_IT_IS if best == "none" else fits[best](rows)


@dataclass(frozen=True)
class _Rows:
    """What is fitted on, [n] float64 each."""

    prediction: np.ndarray
    known: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    """About 1."""
    kind: str

    @property
    def enough(self) -> bool:
        """Whether there are labels enough, of both classes."""
        label = self.label
        if self.kind == "binary":
            return min(label.sum(), len(label) - label.sum()) >= _LEAST_LABELS
        return len(label) >= _LEAST_LABELS and label.min() < label.max()

    @property
    def both(self) -> np.ndarray:
        """[n, 2]: predictions and what is known."""
        return np.stack([self.prediction, self.known], axis=1)

    def take(self, some: np.ndarray) -> _Rows:
        """Return the rows where `some` [n] bool holds."""
        prediction, known = self.prediction[some], self.known[some]
        return _Rows(prediction, known, self.label[some], self.weight[some], self.kind)

    def losses(self, calibrator: Calibrator) -> np.ndarray:
        """Squared errors or log losses of the calibrated predictions, weighted."""
        value, known = (tf.constant(x, tf.float32) for x in (self.prediction, self.known))
        found = calibrator(value, known) if isinstance(calibrator, Blend) else calibrator(value)
        return self.weight * _losses(self.kind, found.numpy().astype(np.float64), self.label)

    def held_out(self, fit: Fit, held: np.ndarray) -> np.ndarray:
        """Losses of the rows that are `held` [n] bool out, as fitted on the others."""
        others = self.take(~held)
        return self.take(held).losses(fit(others) if others.enough else AS_IT_IS)


Fit = Callable[[_Rows], Calibrator]


def fit_blend(own: np.ndarray, score: np.ndarray, chosen: np.ndarray, there: np.ndarray) -> Blend:
    """Fit the blend that makes the chosen items of lists likeliest, neither part below 0.

    Args:
        own: [Q, C] float, the logits of the retrieval task.
        score: [Q, C] float, of retrieval.
        chosen: [Q, C] bool; lists without a chosen item say nothing.
        there: [Q, C] bool, False for padding.
    """
    found = (chosen & there).any(axis=1)
    if found.sum() < _LEAST_LABELS:
        return Blend()
    there, chosen = there[found], (chosen & there)[found]
    parts = np.stack([own[found], score[found]]).astype(np.float64)
    parts = np.where(there, parts, 0.0)
    of_chosen = parts[:, chosen].sum(axis=1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.where(there, np.tensordot(weights, parts, axes=1), -np.inf)
        chance = softmax(logits, axis=1)
        slope = np.array([(chance * part).sum() for part in parts]) - of_chosen
        total = logsumexp(logits, axis=1).sum() - weights @ of_chosen
        return float(total / len(there)), slope / len(there)

    best = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * 2)
    return Blend(float(best.x[0]), float(best.x[1]))


def save_calibration(calibrators: Mapping[str, Calibrator], path: Path) -> None:
    """Write calibrators by task as JSON."""
    write_json(path, calibration_state(calibrators))


def load_calibration(path: Path) -> dict[str, Calibrator]:
    """Read what `save_calibration` wrote; raises `UserError` where it cannot be read."""
    try:
        return calibrators_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read; remove {path.parent} to train the ranker anew"
        ) from error


def calibration_state(calibrators: Mapping[str, Calibrator]) -> dict[str, Any]:
    """Return calibrators by task as plain values for JSON."""
    return {task: asdict(calibrator) for task, calibrator in calibrators.items()}


def calibrators_of(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Calibrator]:
    """Return the calibrators that `calibration_state` told of."""
    return {task: _calibrator_of(values) for task, values in state.items()}


def _calibrator_of(values: Mapping[str, Any]) -> Calibrator:
    if "at" in values:
        return Isotonic(tuple(values["at"]), tuple(values["value"]))
    return Blend(**values) if "own" in values else Affine(**values)


def _platt(rows: _Rows) -> Affine:
    def loss(line: np.ndarray) -> float:
        return float(_losses("binary", line[0] * rows.prediction + line[1], rows.label).mean())

    bounds = [(_LEAST_SCALE, None), (None, None)]
    found = minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=bounds)
    return Affine(float(found.x[0]), float(found.x[1]))


def _line(rows: _Rows) -> Affine:
    scale, offset = _least_squares(rows.prediction[:, np.newaxis], rows, [_LEAST_SCALE])
    return Affine(scale, offset)


def _blend(rows: _Rows) -> Blend:
    return Blend(*_least_squares(rows.both, rows, [0.0, 0.0]))


def _least_squares(columns: np.ndarray, rows: _Rows, least: Sequence[float]) -> list[float]:
    """Factors of `columns` [n, m], each at `least` so much, and an offset."""
    design = np.column_stack([columns, np.ones(len(columns))])
    exactness = np.sqrt(rows.weight)
    bounds = ([*least, -np.inf], np.inf)
    found = lsq_linear(exactness[:, np.newaxis] * design, exactness * rows.label, bounds=bounds)
    return found.x.tolist()


def _isotonic_logits(rows: _Rows) -> Isotonic:
    found = _blocks(rows)
    return Isotonic(found.at, tuple(logit(np.clip(found.value, _EDGE, 1 - _EDGE)).tolist()))


def _blocks(rows: _Rows) -> Isotonic:
    """Centre and mean of each block; one label at the mean is added to each, for the small ones.

    Equal predictions are one point: told apart by their place in the log, they would be cut into
    blocks that rise by chance.
    """
    point, which, count = np.unique(rows.prediction, return_inverse=True, return_counts=True)
    weight = np.bincount(which, rows.weight)
    label = np.bincount(which, rows.weight * rows.label) / weight
    prior = np.average(label, weights=weight)
    starts = _starts(label, weight)
    total = np.add.reduceat(weight, starts)
    one = total / np.add.reduceat(count, starts)
    at = np.add.reduceat(weight * point, starts) / total
    value = (np.add.reduceat(weight * label, starts) + prior * one) / (total + one)
    # what was added may have put a small block beside its neighbour or beyond
    starts = _starts(value, total)
    size = np.add.reduceat(total, starts)
    at, value = (np.add.reduceat(total * part, starts) / size for part in (at, value))
    return Isotonic(tuple(at.tolist()), tuple(value.tolist()))


def _starts(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where the blocks of an isotonic regression begin, [blocks] int64."""
    return isotonic_regression(values, weights=weights).blocks[:-1].astype(np.int64)


_FITS: dict[str, dict[str, Fit]] = {
    "binary": {"platt": _platt, "isotonic": _isotonic_logits},
    "regression": {"platt": _line, "isotonic": _blocks},
}


def _losses(kind: str, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    if kind == "regression":
        return np.square(prediction - label)
    # log(1 + e^x) - y x
    return np.logaddexp(0.0, prediction) - label * prediction
