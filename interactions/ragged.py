"""Lists of item rows of different lengths, one per query, as two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Several item rows per query: those of query q are items[offsets[q]:offsets[q + 1]]."""

    offsets: np.ndarray
    """[Q + 1] int64, ascending, from 0 to the number of entries."""
    items: np.ndarray
    """[entries] int."""

    @classmethod
    def of(cls, lists: Iterable[Iterable[int]]) -> Self:
        """Return the given lists of item rows as flat arrays."""
        arrays = [np.asarray(list(one), np.int64) for one in lists]
        lengths = np.array([len(one) for one in arrays], np.int64)
        items = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        return cls(_offsets(lengths), items)

    @classmethod
    def empty(cls, queries: int) -> Self:
        """Return an empty list for each of so many queries."""
        return cls(np.zeros(queries + 1, np.int64), np.zeros(0, np.int32))


@dataclass(frozen=True)
class Entries:
    """The entries of some queries' lists, one after the other."""

    position: np.ndarray
    """[entries] int64: which of the asked-for queries the entry belongs to."""
    item: np.ndarray
    """[entries] int64."""


def entries_of(ragged: Ragged, queries: np.ndarray) -> Entries:
    """Return the entries of the lists of `queries` ([q] int64), in the order asked for."""
    starts = ragged.offsets[queries]
    lengths = ragged.offsets[queries + 1] - starts
    position = np.repeat(np.arange(len(queries)), lengths)
    # Within each list the entries count up from its start.
    within = np.arange(len(position)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Entries(position, ragged.items[np.repeat(starts, lengths) + within].astype(np.int64))


def take(ragged: Ragged, queries: np.ndarray) -> Ragged:
    """Return the lists of `queries` ([q] int64) alone, in the order asked for."""
    return Ragged(_offsets(np.diff(ragged.offsets)[queries]), entries_of(ragged, queries).item)


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
