"""What a user's own earlier labels of an item say, beside all that else is expected of the two.

Who buys two of a yoghurt each week, or fills a larger tank, differs from what the user and the item
are otherwise like. How far such a difference is to be believed is credibility (Bühlmann and Straub
1970, "Glaubwürdigkeit für Schadensätze"): labels of volume v, n for n labels where all are as
exact, count v / (v + k), and pairs that were labelled more than once say how large k is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_FEWEST_REPEATED = 50
"""Pairs with more than one label, below which nothing is learnt of how alike these are."""
_SURE = 2.0
"""Standard errors by which labels of one pair must be alike."""
_LEAST_K, _MOST_K = 0.1, 20.0
"""No labels are believed without any doubt, and where one says hardly anything, pairs are not worth
keeping."""
_MOST_WEIGHT = 4
"""Of a pair in what k is: as one with five labels has, so that no single one decides."""
_MOST_PAIRS = 5_000_000
"""Pairs that are kept, 12 bytes each: those with the most volume."""
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
    pair: np.ndarray, differences: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> OwnLabels:
    """Learn what the labels of a pair say of its next one.

    Args:
        pair: [n] int64, at which a label was given.
        differences: returns by how much each label differs from what was expected, [n] float, and
            its volume, [n] float above 0 and about 1: the variance of a difference is in proportion
            to one over it. Not asked where no pairs have labels enough.
    """
    pairs, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    if (count > 1).sum() < _FEWEST_REPEATED:
        return OwnLabels.none()
    difference, volume = differences()
    sums = _Sums.of(place, count, difference, volume)
    k = _volume_believed_by_half(sums.take(count > 1))
    if k is None:
        return OwnLabels.none()
    believed = sums.total / (sums.volume + k)
    if len(pairs) > _MOST_PAIRS:
        kept = np.sort(np.argpartition(-sums.volume, _MOST_PAIRS)[:_MOST_PAIRS])
        pairs, believed = pairs[kept], believed[kept]
    return OwnLabels(pairs, believed.astype(np.float32))


@dataclass(frozen=True)
class _Sums:
    """Of each pair's labels, [pairs] float64 each."""

    count: np.ndarray
    volume: np.ndarray
    squared_volume: np.ndarray
    total: np.ndarray
    """Of differences times volumes."""
    squares: np.ndarray
    """Of squared differences times volumes."""
    squared_products: np.ndarray
    """Of squared differences times squared volumes."""

    @classmethod
    def of(
        cls, place: np.ndarray, count: np.ndarray, difference: np.ndarray, volume: np.ndarray
    ) -> _Sums:
        product = difference * volume
        summed = (volume, volume**2, product, difference * product, product**2)
        return cls(count, *(np.bincount(place, weights=values) for values in summed))

    def take(self, some: np.ndarray) -> _Sums:
        """Return those of some pairs, [pairs] bool."""
        return _Sums(*(values[some] for values in vars(self).values()))


def _volume_believed_by_half(sums: _Sums) -> float | None:
    """Return k, the variance of a label of volume 1 within pairs over that between them.

    None where the labels of pairs, which all have more than one, are not beyond doubt alike, or
    hardly.
    """
    # differences of one pair multiplied by one another, each by each
    alike = (sums.total**2 - sums.squared_products) / (sums.volume**2 - sums.squared_volume)
    apart = (sums.squares - sums.total**2 / sums.volume) / (sums.count - 1)
    share = np.minimum(sums.count - 1, _MOST_WEIGHT)
    share = share / share.sum()
    between, within = share @ alike, share @ apart
    # a pair draws the mean to itself, so that it is further off than it looks
    error = np.sqrt(((share * (alike - between) / (1 - share)) ** 2).sum())
    if between > _SURE * error and within <= _MOST_K * between:
        return max(float(within / between), _LEAST_K)
    return None
