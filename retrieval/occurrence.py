"""How often an item is among the targets of a batch's windows."""

from __future__ import annotations

from typing import Protocol

import numpy as np

_HASHES = 4
"""Independent hash functions of the streaming estimate."""


class Occurrence(Protocol):
    """The chance that windows other than a query's own bring an item."""

    def observe(self, targets: np.ndarray) -> None:
        """Take note of a batch's targets, [n] int32 item rows."""
        ...

    def absence(self, items: np.ndarray, *, others: int) -> np.ndarray:
        """Return the probability [n] float64 that none of `others` windows has an item as target.

        `items` are [n] int32 item rows; the windows are drawn without replacement from all but the
        query's own.
        """
        ...


class CountedOccurrence:
    """Exact, from counts of all windows."""

    def __init__(self, windows_with_item: np.ndarray, *, windows: int) -> None:
        """Take counts: [items] int, in how many of the `windows` an item is a target."""
        self._count = windows_with_item
        self._windows = windows
        self._table: dict[int, np.ndarray] = {}

    def observe(self, targets: np.ndarray) -> None:
        """Learn nothing: all is counted."""

    def absence(self, items: np.ndarray, *, others: int) -> np.ndarray:
        """Hypergeometric, for items that the query's own window does not have."""
        if others not in self._table:
            longest = int(self._count.max(initial=0))
            self._table[others] = absence_table(self._windows - 1, drawn=others, longest=longest)
        return self._table[others][self._count[items]]


def absence_table(windows: int, *, drawn: int, longest: int) -> np.ndarray:
    """Return the chance that none of `drawn` of the `windows` is among c, c = 0 to `longest`.

    Returns:
        [longest + 1] float64: the hypergeometric C(windows - c, drawn) / C(windows, drawn).
    """
    left = np.maximum(windows - np.arange(longest), 1)
    return np.append(1.0, np.cumprod(1.0 - np.minimum(drawn / left, 1.0)))


class StreamingFrequency:
    """Estimates from the batches as they come how often an item is in one, in fixed memory.

    Keeps a moving average of the number of steps between an item's occurrences, in hashed arrays;
    its inverse is the chance to be in a batch (Yi et al. 2019, "Sampling-bias-corrected neural
    modeling", section 3.3). Items that share a place only look more frequent, so the longest
    distance of several arrays counts. Until an average is full it is a plain mean.
    """

    def __init__(
        self, *, places: int, batch_windows: int, rng: np.random.Generator, rate: float = 0.01
    ) -> None:
        """Make arrays of `places` places, rounded up to a power of two, averaging at `rate`.

        The batches it will see have `batch_windows` windows, a few less.
        """
        self._batch_windows = batch_windows
        self._bits = max(int(places - 1).bit_length(), 1)
        odd = rng.integers(0, 2**63, _HASHES, dtype=np.uint64) * np.uint64(2)
        self._multipliers = odd + np.uint64(1)
        self._rate = rate
        shape = (_HASHES, 2**self._bits)
        self._step = 0
        self._last = np.zeros(shape, np.int32)
        self._seen = np.zeros(shape, np.int32)
        self._distance = np.full(shape, np.inf, np.float32)

    def observe(self, targets: np.ndarray) -> None:
        """Take note of a batch's targets, [n] int32 item rows, one step after the last."""
        self._step += 1
        for row, places in enumerate(self._places(np.unique(targets))):
            hit = np.unique(places)
            self._seen[row, hit] += 1
            seen = self._seen[row, hit]
            distance = self._step - self._last[row, hit]
            before = np.where(seen == 1, 0.0, self._distance[row, hit])
            self._distance[row, hit] = before + np.maximum(self._rate, 1.0 / seen) * (
                distance - before
            )
            self._last[row, hit] = self._step

    def probability(self, items: np.ndarray) -> np.ndarray:
        """Return the estimated chance [n] float64 that a batch has each of `items` [n] int32."""
        places = self._places(items)
        distance = np.take_along_axis(self._distance, places, axis=1)
        return 1.0 / np.maximum(distance.max(axis=0), 1.0)

    def absence(self, items: np.ndarray, *, others: int) -> np.ndarray:
        """Take windows for independent of each other."""
        return (1.0 - self.probability(items)) ** (others / self._batch_windows)

    def _places(self, items: np.ndarray) -> np.ndarray:
        """Hash items [n] by multiply-shift (Dietzfelbinger et al. 1997), [hashes, n] int64."""
        product = self._multipliers[:, np.newaxis] * items.astype(np.uint64)
        return (product >> np.uint64(64 - self._bits)).astype(np.int64)
