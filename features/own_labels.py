"""What a user's own earlier labels of an item say, beside all that else is expected of the two.

Who buys two of a yoghurt each week, or fills a larger tank, differs from what the user and the item
are otherwise like. How far such a difference is to be believed is credibility (Bühlmann and Straub
1970, "Glaubwürdigkeit für Schadensätze"): n labels count n / (n + k), and pairs that were labelled
more than once say how large k is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FEWEST_REPEATED = 50
"""Pairs with more than one label, below which nothing is learnt of how alike these are."""
_SURE = 2.0
"""Standard errors by which labels of one pair must be alike."""
_LEAST_K, _MOST_K = 0.1, 20.0
"""No labels are believed without any doubt, and where one says hardly anything, pairs are not worth
keeping."""
_MOST_PAIRS = 5_000_000
"""Pairs that are kept, 12 bytes each: those of which most is said."""
NO_PAIR = np.iinfo(np.int64).max


@dataclass(frozen=True)
class OwnLabels:
    """Of pairs of a user and an item, what is to be added to what is expected of the two."""

    pair: np.ndarray
    """[n] int64, rising, at least one: user row times the item rows, plus the item row."""
    difference: np.ndarray
    """[n] float32."""

    @classmethod
    def none(cls) -> OwnLabels:
        """Nothing is known of any pair."""
        return cls(np.array([NO_PAIR]), np.zeros(1, np.float32))

    def of(self, pair: np.ndarray) -> np.ndarray:
        """Return the differences of pairs [n] int64, 0 of those that are not there; [n] float32."""
        place = np.minimum(np.searchsorted(self.pair, pair), len(self.pair) - 1)
        return np.where(self.pair[place] == pair, self.difference[place], np.float32(0.0))


def own_labels(
    pair: np.ndarray, residual: np.ndarray, *, off: np.ndarray, size: np.ndarray
) -> OwnLabels:
    """Learn what the labels of a pair say of its next one.

    Args:
        pair: [n] int64, at which a label was given.
        residual: [n] float, the labels less what was expected, on a scale on which all are about as
            exact: of these k is estimated.
        off: [n] float, the labels less what was expected.
        size: [n] float, above 0 and about 1, what `off` is proportional to; a difference is in
            units of it.
    """
    pairs, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    k = _labels_believed_by_half(place, count, residual)
    if k is None:
        return OwnLabels.none()
    total = np.bincount(place, weights=off)
    difference = total / (np.bincount(place, weights=size) + k)
    if len(pairs) > _MOST_PAIRS:
        kept = np.sort(np.argpartition(-np.abs(difference), _MOST_PAIRS)[:_MOST_PAIRS])
        pairs, difference = pairs[kept], difference[kept]
    return OwnLabels(pairs, difference.astype(np.float32))


def _labels_believed_by_half(
    place: np.ndarray, count: np.ndarray, residual: np.ndarray
) -> float | None:
    """Return k, the variance within pairs over that between them.

    None where the labels of a pair are not beyond doubt alike, or hardly.
    """
    many = count > 1
    if many.sum() < _FEWEST_REPEATED:
        return None
    total, square = (np.bincount(place, weights=values)[many] for values in (residual, residual**2))
    count = count[many]
    # residuals of one pair multiplied by one another, each by each
    products, number = (total**2 - square) / 2, count * (count - 1) / 2
    between = products.sum() / number.sum()
    error = np.sqrt(((products - between * number) ** 2).sum()) / number.sum()
    if between <= _SURE * error:
        return None
    within = (square - total**2 / count).sum() / (count - 1).sum()
    k = float(within / between)
    return max(k, _LEAST_K) if k <= _MOST_K else None
