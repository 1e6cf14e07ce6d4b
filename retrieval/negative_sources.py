"""The sources that a batch's negatives are drawn from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.occurrence import Occurrence, absence_table

_NO_WINDOW = -1


@dataclass(frozen=True)
class BatchTargets:
    """What a batch's windows ask for."""

    targets: np.ndarray
    """[Q] int32: item rows."""
    window: np.ndarray
    """[Q] int32: the place of each target's window among the batch's."""
    index: np.ndarray
    """[W] int64: which of all windows these are."""


@dataclass(frozen=True)
class Brought:
    """What a source brings to a batch; an item may stand several times."""

    items: np.ndarray
    """[n] int32: item rows."""
    window: np.ndarray
    """[n] int32: the batch's window that brings each, for whose queries it is there for certain;
    -1 where it came by chance."""

    @classmethod
    def by_chance(cls, items: np.ndarray) -> Brought:
        """Bring items [n] that no window of the batch asked for."""
        return cls(items, np.full(len(items), _NO_WINDOW, np.int32))


class Source(Protocol):
    """Draws items for a batch and knows the chances of it."""

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Draw the items of a batch."""
        ...

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return the probability that an item was not in the last draw.

        Args:
            items: [n] int32 item rows.

        Returns:
            [n] float64, for the queries of windows that did not bring the item themselves.
        """
        ...


class Whole:
    """The whole catalogue: the full softmax."""

    def __init__(self, catalogue: np.ndarray) -> None:
        self._catalogue = catalogue

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Bring every item."""
        del batch, rng
        return Brought.by_chance(self._catalogue)

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return 0: all are there."""
        return np.zeros(len(items))


class Uniform:
    """A number of items of the catalogue, without replacement, all alike."""

    def __init__(self, catalogue: np.ndarray, *, number: int) -> None:
        self._catalogue = catalogue
        self._number = number

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Draw the items; NumPy does it in a time that does not grow with a large catalogue."""
        del batch
        places = rng.choice(len(self._catalogue), self._number, replace=False, shuffle=False)
        return Brought.by_chance(self._catalogue[places])

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return the share of the catalogue that is left out."""
        return np.full(len(items), 1.0 - self._number / len(self._catalogue))


class Popular:
    """Items by weight: the catalogue is cut into strata of equal weight, each gives one item.

    Stratified sampling with one draw for each stratum (Cochran 1977, "Sampling techniques",
    chapter 5); an item that lies in several strata may be drawn in each, so its chance to be there
    is known exactly, however heavy it is.
    """

    def __init__(self, catalogue: np.ndarray, *, weights: np.ndarray, number: int) -> None:
        """Take `weights` [items] float by item row, not all 0."""
        self._catalogue = catalogue
        weight = weights[catalogue].astype(np.float64)
        edges = np.append(0.0, np.cumsum(weight))
        # an item reaches from its edge to the next, a stratum from one whole number to the next
        self._edges = edges * (number / edges[-1])
        self._absence = np.ones(len(weights))
        self._absence[catalogue] = _absence_from_strata(self._edges)
        self._number = number

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Draw one item from each stratum, in log time."""
        del batch
        point = np.arange(self._number) + rng.random(self._number)
        place = np.searchsorted(self._edges, point, side="right") - 1
        return Brought.by_chance(self._catalogue[np.minimum(place, len(self._catalogue) - 1)])

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return the chance that no stratum gave an item."""
        return self._absence[items]


def _absence_from_strata(edges: np.ndarray) -> np.ndarray:
    """Chance [n] that no stratum draws the item between `edges` [n + 1] one stratum apart."""
    low, high = edges[:-1], edges[1:]
    first, last = np.floor(low), np.floor(high)
    inside = 1.0 - (high - low)
    across = (low - first) * (1.0 - (high - last))
    # whoever fills a whole stratum is always there
    return np.where(first == last, inside, np.where(last - first >= 2, 0.0, across))


class Targets:
    """The targets of the batch's windows, and of so many batches before it in the epoch."""

    def __init__(self, occurrence: Occurrence, *, kept_batches: int) -> None:
        self._occurrence = occurrence
        self._kept: deque[BatchTargets] = deque(maxlen=kept_batches)
        self._others = 0

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Bring the batch's targets and the kept ones, and keep the batch's."""
        del rng
        self._occurrence.observe(batch.targets)
        self._others = sum(len(kept.index) for kept in self._kept) + len(batch.index) - 1
        earlier = Brought.by_chance(
            np.concatenate([batch.targets[:0], *(kept.targets for kept in self._kept)])
        )
        self._kept.append(batch)
        return Brought(
            np.concatenate([batch.targets, earlier.items]),
            np.concatenate([batch.window, earlier.window]),
        )

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return the chance that no other window of these batches has the item as a target."""
        return self._occurrence.absence(items, others=self._others)


class Mined:
    """Items mined for each window; none before `mine` was called."""

    def __init__(self, target_windows: np.ndarray, *, windows: int) -> None:
        """Take the counts behind another source's targets.

        Args:
            target_windows: [items] int, windows that already bring an item as a target; zeros
                where targets are not drawn or not counted.
            windows: number of all windows.
        """
        self._target_windows = target_windows
        self._mined_windows = np.zeros_like(target_windows)
        self._windows = windows
        self._rows = np.full((windows, 0), -1, np.int32)
        self._others = 0
        self._table: dict[int, np.ndarray] = {}

    def mine(self, rows: np.ndarray) -> None:
        """Take the mined items of every window, [windows, h] int32 item rows, -1 for none.

        A window's items are distinct and none of them is its target.
        """
        self._rows = rows
        self._mined_windows = np.bincount(rows[rows >= 0], minlength=len(self._target_windows))
        self._table = {}

    def draw(self, batch: BatchTargets, rng: np.random.Generator) -> Brought:
        """Bring what was mined for the batch's windows."""
        del rng
        self._others = len(batch.index) - 1
        rows = self._rows[batch.index]
        window, column = np.nonzero(rows >= 0)
        return Brought(rows[window, column].astype(np.int32), window.astype(np.int32))

    def absence(self, items: np.ndarray) -> np.ndarray:
        """Return the chance that no other window has it mined, given that none has it as target."""
        if self._others not in self._table:
            longest = int((self._target_windows + self._mined_windows).max(initial=0))
            self._table[self._others] = absence_table(
                self._windows - 1, drawn=self._others, longest=longest
            )
        table, before = self._table[self._others], self._target_windows[items]
        given = table[before]
        out = np.zeros(len(items))
        return np.divide(
            table[before + self._mined_windows[items]], given, out=out, where=given > 0
        )
