"""Arrays as long as the log, made block by block and kept on disk, so that memory stays level."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

import numpy as np

from interactions.errors import UserError

BLOCK = 1_000_000
"""Rows that are worked on at a time; an array of no more of them stays in memory."""


def spans(length: int) -> Iterator[slice]:
    """Cut 0 to `length` into slices of at most `BLOCK`."""
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))


def whole_spans(offsets: np.ndarray) -> Iterator[slice]:
    """Cut segments into slices of about `BLOCK` rows, none of which parts a segment.

    `offsets` [segments + 1] int64, ascending: segment s is rows offsets[s]:offsets[s + 1]. Yields
    slices of segments; one that is longer than `BLOCK` is a slice of its own.
    """
    first, last = 0, len(offsets) - 1
    while first < last:
        reached = np.searchsorted(offsets, offsets[first] + BLOCK, side="right") - 1
        stop = min(max(int(reached), first + 1), last)
        yield slice(first, stop)
        first = stop


def stride_to_fit(length: int) -> int:
    """Return the n for which every n-th of `length` rows fits into one block."""
    return max(-(-length // BLOCK), 1)


def count_values(column: np.ndarray, rows: np.ndarray | None, *, size: int) -> np.ndarray:
    """Return how often each of 0 to `size` - 1 stands in `column` at `rows`, [size] int64.

    `rows` [n] int64; None for all.
    """
    counts = np.zeros(size, np.int64)
    for part in spans(len(column) if rows is None else len(rows)):
        counts += np.bincount(column[part if rows is None else rows[part]], minlength=size)
    return counts


class Spill:
    """Joins the blocks of one array.

    What outgrows a block goes to a file without a name in the folder for temporary files (TMPDIR)
    and is mapped from there: the system may drop its pages whenever memory is wanted, unless that
    folder is itself in memory (tmpfs).
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._kept: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; what is mapped stays."""
        if self._file is not None:
            # what could not be written was said when it could not
            with suppress(OSError):
                self._file.close()

    def append(self, block: np.ndarray) -> None:
        """Add a block, [n]; raises `UserError` where there is no room for it."""
        self._length += len(block)
        self._kept.append(np.ascontiguousarray(block, self._dtype))
        if self._file is not None or self._length > BLOCK:
            self._flush()

    def array(self) -> np.ndarray:
        """Return all blocks as one array; what lies on disk cannot be written to."""
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._kept])
        return np.asarray(np.memmap(self._file, self._dtype, mode="r", shape=(self._length,)))

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="tandem-")  # noqa: SIM115
            for block in self._kept:
                self._file.write(block.data)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"the folder for temporary files, {tempfile.gettempdir()}, cannot be written "
                f"({error}); name one with more room by TMPDIR"
            ) from error
        self._kept.clear()
