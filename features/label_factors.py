"""What labels say of every pair of user and item: matrix factorisation in closed form.

A label is the mean, a bias of the user and of the item, and the product of their vectors; what is
known of an entity beside its labels says where its bias and vector begin. Variational Bayes (Lim
and Teh 2007, "Variational Bayesian approach to movie rating prediction") with side information
(Simm et al. 2017, "Macau") finds how strongly everything is held back from the labels themselves.
What is paid, read or watched differs by factors rather than by steps: such labels are factorised on
a logarithmic scale, and what is expected of them is brought back on the labels' mean, as by a ratio
estimator (Snowdon 1991, "A ratio estimator for bias correction in logarithmic regressions").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import skew

from features.content_labels import said_by_content
from features.own_labels import OwnLabels, own_labels

_DIM = 10
"""Length of a vector."""
_SWEEPS = 50
_ENOUGH = 1e-3
"""Relative change of the error from which on another sweep is not worth its time."""
_LEAST_LABELS = 50
_BLOCK = 32_768
"""Rows whose matrices are held at once."""
_USER_SHRINK = 5.0
"""Added to a user's count of labels, whose mean is taken off before content is asked."""
_LEAST_SHARE = 0.25
"""Of the median amount, added to all before their logarithm, so that nothing is minus infinity."""
_MOST_SKEWED = 8.0
"""Beyond it, as of one in seventy, squared errors cannot tell labels from noise."""
_LESS_SKEWED = 0.5
"""Share of the labels' skewness that their logarithms may have, to be taken instead."""
_LEAST_ERROR = 1e-6
"""Squared error per label, in units of their variance, below which it is rounding: where labels
without noise are explained in full it comes out as 0 or less."""
LARGEST_LOG = 80.0
"""Whose exponential is still a float32."""
_BEGIN, _CAREFUL = 10.0, 5.0
"""Precisions at first: of what labels say beside the traits, and of what traits say."""


@dataclass(frozen=True)
class LabelFactors:
    """Biases and vectors, in units of the labels or of their logarithms."""

    user: np.ndarray
    """[users + 1, 1 + dim] float32: bias and vector; the last row is the unknown user."""
    item: np.ndarray
    """[items + 1, 1 + dim] float32: the bias, on the labels' mean, and the vector."""
    logarithm: tuple[float, float] = (0.0, 0.0)
    """Where sums are logarithms: a label is the first times (exp(sum) - the second); (0, 0) where
    sums are labels."""
    own: OwnLabels = field(default_factory=OwnLabels.none)
    """What earlier labels of the very pair add: to the sum, or where sums are logarithms as a share
    to exp(sum)."""

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the expected labels of pairs of rows, [n] each, -1 is unknown; [n] float32."""
        own, total = self.own.of(self.pair(user, item)), self.total(user, item)
        factor, offset = self.logarithm
        if not factor:
            return total + own
        amount = np.exp(np.minimum(total, np.float32(LARGEST_LOG))) * (1 + own)
        return np.float32(factor) * (amount - np.float32(offset))

    def total(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the sums, [n] float32."""
        mine, theirs = self.user[user], self.item[item]
        return mine[:, 0] + theirs[:, 0] + np.einsum("nd,nd->n", mine[:, 1:], theirs[:, 1:])

    def pair(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the numbers of pairs in `own`, [n] int64; one with an unknown is none of them."""
        number = user.astype(np.int64) * len(self.item) + item
        return np.where((user < 0) | (item < 0), np.int64(-1), number)


def label_factors(
    user: np.ndarray,
    item: np.ndarray,
    label: np.ndarray,
    *,
    user_traits: np.ndarray,
    item_traits: np.ndarray,
    item_content: csr_matrix | None = None,
    other: LabelFactors | None = None,
) -> LabelFactors:
    """Factorise the labels of pairs; a pair that stands twice has two labels.

    Args:
        user: [n] int user rows.
        item: [n] int item rows.
        label: [n] float.
        user_traits: [users + 1, columns] float, of about one size; the last row is the unknown.
        item_traits: [items + 1, columns] float.
        item_content: [items + 1, columns], all values and words; what they say of the label becomes
            one more trait. None where nothing is known.
        other: factors of another label, of which no logarithm was taken. This one is expected to
            rise in proportion to it, and its own factors to say what is left: that takes one number
            to be learnt, where vectors take thousands.
    """
    offset = _log_offset(label)
    scaled = label if offset is None else np.log(label + offset)
    found = _on_one_scale(user, item, scaled, user_traits, item_traits, item_content, other)
    if offset is not None:
        amount = replace(found, logarithm=(1.0, offset)).predict(user, item)
        found = replace(found, logarithm=(float(label.mean() / amount.mean()), offset))
    return replace(found, own=_own_labels(found, user, item, label))


def _own_labels(
    found: LabelFactors, user: np.ndarray, item: np.ndarray, label: np.ndarray
) -> OwnLabels:
    """What the labels of a pair add to the factors that were `found`."""

    def differences() -> tuple[np.ndarray, np.ndarray]:
        total = found.total(user, item)
        factor, offset = found.logarithm
        if not factor:
            return label - total, np.ones(len(label))
        amount = factor * np.exp(np.minimum(total, LARGEST_LOG, dtype=np.float64))
        # variances between those of counts, as the mean, and of prices, as its square: what
        # actuaries take for amounts (Tweedie 1984, with a power of 1.5)
        return (label + factor * offset) / amount - 1, np.sqrt(amount / amount.mean())

    return own_labels(found.pair(user, item), differences)


def _log_offset(label: np.ndarray) -> float | None:
    """What to add to the labels before their logarithm; None where they stay on their own scale.

    So do labels below 0, those that are mostly 0, whose logarithms would tell whether there is an
    amount rather than how large, and those that logarithms do not make far less skewed.
    """
    if len(label) < _LEAST_LABELS or label.min() < 0 or label.min() == label.max():
        return None
    offset = _LEAST_SHARE * float(np.median(label))
    if offset == 0:
        return None
    plain, logarithm = abs(skew(label)), abs(skew(np.log(label + offset)))
    return offset if logarithm < _LESS_SKEWED * plain else None


def _on_one_scale(
    user: np.ndarray,
    item: np.ndarray,
    label: np.ndarray,
    user_traits: np.ndarray,
    item_traits: np.ndarray,
    item_content: csr_matrix | None,
    other: LabelFactors | None,
) -> LabelFactors:
    """Factorise as they are `label` [n], of `label_factors` or their logarithms."""
    mean = float(label.mean()) if len(label) else 0.0
    std = float(label.std()) if len(label) else 0.0
    width = 1 + _DIM + (0 if other is None else other.user.shape[1] - 1)
    shapes = [(len(traits), width) for traits in (user_traits, item_traits)]
    if len(label) < _LEAST_LABELS or std <= 0 or abs(skew(label)) > _MOST_SKEWED:
        users, items = (np.zeros(shape, np.float32) for shape in shapes)
        items[:, 0] = mean
        return LabelFactors(users, items)
    scaled = (label - mean) / std

    def factorised(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        traits = item_traits
        if item_content is not None:
            said = said_by_content(item_content, item, label - _user_mean(user, label))
            size = said.std()
            traits = np.column_stack([traits, said / size if size > 0 else said])
        return _factorised(user, item, label, user_traits, traits)

    if other is None:
        users, items = factorised(scaled)
    else:
        users, items = _leaning(user, item, scaled, other, factorised)
    # of the product, each side takes half of the unit
    for side in (users, items):
        side[:, 0] *= std
        side[:, 1:] *= np.sqrt(std)
    items[:, 0] += mean
    return LabelFactors(users.astype(np.float32), items.astype(np.float32))


def _leaning(
    user: np.ndarray,
    item: np.ndarray,
    label: np.ndarray,
    other: LabelFactors,
    factorised: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return factors of `label` [n] float, a multiple of `other` and what is left of it.

    The multiple is found twice: of the label alone, and again beside the biases and vectors that
    explain a part of what the other label had seemed to.
    """
    said = other.total(user, item).astype(np.float64)
    middle = said.mean()
    said -= middle
    size = said @ said
    if size <= _LEAST_ERROR * len(said):
        share, (users, items) = 0.0, factorised(label)
    else:
        share = _multiple(said, label)
        users, items = factorised(label - share * said)
        own = LabelFactors(users, items).total(user, item)
        _, beside = np.linalg.lstsq(np.stack([said, own], axis=1), label)[0]
        share = _multiple(said, label - beside * own)
        users, items = factorised(label - share * said)
    # a sum of two products is the product of longer vectors
    mine = [users[:, :1] + share * other.user[:, :1], users[:, 1:], share * other.user[:, 1:]]
    theirs = [items[:, :1] + share * (other.item[:, :1] - middle), items[:, 1:], other.item[:, 1:]]
    return np.concatenate(mine, axis=1), np.concatenate(theirs, axis=1)


def _multiple(said: np.ndarray, label: np.ndarray) -> float:
    """Return the multiple of `said` that explains `label` best, shrunk by how uncertain it is."""
    size = said @ said
    found = said @ label / size
    variance = np.mean(np.square(label - found * said)) / size
    return float(found * found**2 / max(found**2 + variance, 1e-30))


def _user_mean(user: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The mean label of each row's user, shrunk to 0, [n]."""
    count, total = np.bincount(user), np.bincount(user, weights=label)
    return (total / (count + _USER_SHRINK))[user]


@dataclass
class _Side:
    """The users or the items that have labels: where their rows are, and how surely."""

    traits: np.ndarray
    """[rows, 1 + columns] float64, the first column of ones."""
    mean: np.ndarray
    """[rows, width] float64: bias and vector."""
    covariance: np.ndarray
    """[rows, width, width] float32."""
    precision: np.ndarray
    """[width, width]: of rows about what their traits say."""
    weights: np.ndarray
    """[1 + columns, width]: what traits say."""
    careful: float = _CAREFUL
    """Precision of what traits say."""

    @classmethod
    def of(cls, traits: np.ndarray, rng: np.random.Generator) -> _Side:
        size, width = len(traits), 1 + _DIM
        mean = np.zeros((size, width))
        mean[:, 1:] = 0.1 * rng.normal(size=(size, _DIM))
        return cls(
            _with_ones(traits),
            mean,
            np.zeros((size, width, width), np.float32),
            _BEGIN * np.eye(width),
            np.zeros((1 + traits.shape[1], width)),
        )

    @property
    def design(self) -> np.ndarray:
        """[rows, width]: what the other side's bias and vector are multiplied by."""
        return np.concatenate([np.ones((len(self.mean), 1)), self.mean[:, 1:]], axis=1)

    def learn_prior(self) -> None:
        """Regress the rows on their traits (Macau, section 3.2), and see how far they are off."""
        known, width = self.traits, self.mean.shape[1]
        held = np.full(known.shape[1], self.careful)
        held[0] = 1e-2
        uncertain = np.linalg.inv(known.T @ known + np.diag(held))
        weights = self.weights = uncertain @ (known.T @ self.mean)
        off = self.mean - known @ weights
        scatter = off.T @ off + self.covariance.sum(axis=0, dtype=np.float64)
        scatter += (weights * held[:, np.newaxis]).T @ weights + np.eye(width)
        self.precision = (len(off) + width + 1) * np.linalg.inv(scatter)
        said, count = weights[1:], (known.shape[1] - 1) * width
        if count:
            size = np.einsum("pa,ab,pb->", said, self.precision, said)
            size += width * np.trace(uncertain[1:, 1:])
            self.careful = float((1 + count) / (1e-2 + size))

    def learn_rows(
        self, count: csr_matrix, total: csr_matrix, other: _Side, exactness: float
    ) -> float:
        """Find the rows that explain the labels, given those of the `other` side.

        `count` and `total` are [rows, rows of the other]: how many labels there are, and their sum.
        Returns what the rows add to the expected sum of squared errors, uncertainty included.
        """
        design, width = other.design, self.mean.shape[1]
        # second moments of the design; its first column is certain
        second = other.covariance.astype(np.float64)
        with_bias = second[:, 0, :].copy()
        second[:, 0, :] = second[:, :, 0] = with_bias[:, 0] = 0.0
        second += design[:, :, np.newaxis] * design[:, np.newaxis, :]
        second = second.reshape(len(design), width * width)
        with_bias += design * other.mean[:, :1]
        change = 0.0
        for start in range(0, len(self.mean), _BLOCK):
            some = slice(start, start + _BLOCK)
            # [rows, width * width] -> [rows, width, width]
            seen = (count[some] @ second).reshape(-1, width, width)
            pull = total[some] @ design - count[some] @ with_bias
            covariance = np.linalg.inv(exactness * seen + self.precision)
            drawn = exactness * pull + self.traits[some] @ self.weights @ self.precision
            mean = (covariance @ drawn[:, :, np.newaxis])[:, :, 0]
            self.mean[some], self.covariance[some] = mean, covariance
            moment = covariance + mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
            change += float(np.vdot(moment, seen) - 2 * np.vdot(mean, pull))
        return change

    def spread(self, traits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the rows of everybody, by their `traits`: the learnt ones at their places `rows`.

        Of who has no label, traits say all there is to say.
        """
        everybody = _with_ones(traits) @ self.weights
        everybody[rows] = self.mean
        return everybody


def _with_ones(traits: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(traits), 1)), traits], axis=1)


def _factorised(
    user: np.ndarray,
    item: np.ndarray,
    label: np.ndarray,
    user_traits: np.ndarray,
    item_traits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    (whose, user), (which, item) = (np.unique(rows, return_inverse=True) for rows in (user, item))
    users, items = _Side.of(user_traits[whose], rng), _Side.of(item_traits[which], rng)
    shape = (len(whose), len(which))
    count = csr_matrix((np.ones(len(label)), (user, item)), shape=shape)
    total = csr_matrix((label, (user, item)), shape=shape)
    turned = csr_matrix(count.T), csr_matrix(total.T)
    each, sums = np.bincount(user, minlength=shape[0]), np.asarray(total.sum(axis=1)).ravel()
    exactness, error = 1.0, np.inf
    for sweep in range(_SWEEPS):
        if sweep:
            users.learn_prior()
        users.learn_rows(count, total, items, exactness)
        if sweep:
            items.learn_prior()
        change = items.learn_rows(*turned, users, exactness)
        bias = users.mean[:, 0]
        of_biases = each @ (bias**2 + users.covariance[:, 0, 0]) - 2 * sums @ bias
        squares = float(label @ label + of_biases + change)
        before, error = error, max(squares, _LEAST_ERROR * len(label))
        exactness = len(label) / error
        if abs(before - error) < _ENOUGH * error:
            break
    return users.spread(user_traits, whose), items.spread(item_traits, which)
