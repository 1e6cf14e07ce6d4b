"""Which rows are dropped and why: nothing leaves the log without being counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A vocabulary file holds one id per line.
_LINE_BREAKS = r"[\n\r]"


@dataclass(frozen=True)
class CleaningReport:
    """What was read, kept and dropped, and what is odd about the rest."""

    read: int
    """Rows of the events files."""
    kept: int
    """Rows left after cleaning."""
    rows: int
    """Rows of the log: those kept, less the ones that only carry labels of others."""
    users: int
    items: int
    dropped: Mapping[str, int]
    """Rows dropped, by reason."""
    examples: Mapping[str, str]
    """For some reasons, one thing dropped for it."""
    time_unit: str
    users_without_row: int | None
    """Users of the log that the users file does not mention; None without such a file."""
    items_without_row: int | None
    """Items of the log that the items file does not mention; None without such a file."""
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report for people, one fact per line."""
        lines = [
            f"{self.read:,} rows read, {self.kept:,} kept; "
            f"{self.rows:,} interactions of {self.users:,} users and {self.items:,} items",
            f"times: {self.time_unit}",
        ]
        for reason, count in self.dropped.items():
            example = f", e.g. {self.examples[reason]}" if reason in self.examples else ""
            lines.append(f"dropped {count:,}: {reason}{example}")
        for what, count in (("users", self.users_without_row), ("items", self.items_without_row)):
            if count:
                lines.append(f"{count:,} {what} of the log have no row in the {what} file")
        return lines + [f"warning: {warning}" for warning in self.warnings]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        plain = asdict(self)
        return plain | {"dropped": dict(self.dropped), "warnings": list(self.warnings)}


@dataclass
class Drops:
    """Rows still kept of one table, and the reasons why the others are not."""

    keep: np.ndarray
    """[rows] bool."""
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: int) -> Drops:
        """Return the state in which all of `rows` rows are kept."""
        return cls(np.ones(rows, bool))

    def drop(self, bad: np.ndarray, reason: str, *, column: pa.ChunkedArray | None = None) -> None:
        """Drop the rows where `bad` [rows] bool; a row counts for the first reason given.

        The first bad value of `column`, where given, is kept as the example.
        """
        bad = bad & self.keep
        count = int(bad.sum())
        if not count:
            return
        self.keep &= ~bad
        self.counts[reason] = self.counts.get(reason, 0) + count
        if column is not None:
            self.examples.setdefault(reason, repr(column[int(np.argmax(bad))].as_py()))


def drop_bad_ids(drops: Drops, ids: pa.ChunkedArray, *, name: str) -> None:
    """Drop the rows whose id, a string, is missing or cannot stand on a line of its own."""
    drops.drop(pc.is_null(ids).to_numpy(), f"no {name}")
    # Far fewer ids than rows: look at each id once.
    distinct = pc.drop_null(ids.unique())
    bad = distinct.filter(pc.match_substring_regex(distinct, _LINE_BREAKS))
    if len(bad):
        holds = pc.is_in(ids, value_set=bad).to_numpy()
        drops.drop(holds, f"{name} with a line break, which no vocabulary holds", column=ids)


def drop_repeated_ids(drops: Drops, ids: pa.ChunkedArray, *, name: str) -> None:
    """Drop all but the first kept row of each id."""
    codes = encode(ids).codes
    place = np.arange(len(codes))
    first = np.full(codes.max(initial=-1) + 2, len(codes))
    np.minimum.at(first, codes[drops.keep], place[drops.keep])
    drops.drop(place != first[codes], f"{name} that stands on an earlier row too", column=ids)


def drop_repeated_rows(
    drops: Drops, table: pa.Table, *, user: np.ndarray, item: np.ndarray, time: np.ndarray
) -> None:
    """Drop all but the first of kept rows that agree in every column of `table`.

    `user`, `item` and `time` [rows] are integers that equal rows share: only rows that agree in
    them are compared in full.
    """
    suspects = np.flatnonzero(drops.keep)[_share_key(drops.keep, user, item, time)]
    if not len(suspects):
        return
    names = [name for name in table.column_names if not pa.types.is_nested(table[name].type)]
    some = table.select(names).take(pa.array(suspects))
    some = some.append_column("\0row", pa.array(suspects))
    first = some.group_by(names).aggregate([("\0row", "min")])["\0row_min"].to_numpy()
    repeated = np.zeros(len(drops.keep), bool)
    repeated[suspects] = True
    repeated[first] = False
    drops.drop(repeated, "exact repetition of an earlier row")


def _share_key(
    keep: np.ndarray, user: np.ndarray, item: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """Return which kept rows' hash of user, item and time is not theirs alone, bool [kept]."""
    mixed = np.zeros(int(keep.sum()), np.uint64)
    for part in (user, item, time):
        mixed ^= part[keep].astype(np.int64).view(np.uint64)
        # The multiply-shift steps of SplitMix64's finaliser spread each part over all bits.
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    order = np.argsort(mixed)
    same = mixed[order][1:] == mixed[order][:-1]
    shared = np.zeros(len(mixed), bool)
    shared[order[1:][same]] = True
    shared[order[:-1][same]] = True
    return shared


@dataclass(frozen=True)
class Encoded:
    """A column of strings as numbers."""

    codes: np.ndarray
    """[rows] int64: row of `values`; -1 where null."""
    values: pa.Array
    """[distinct] strings in order of first appearance."""

    def at(self, rows: np.ndarray) -> Encoded:
        """Return the given rows, none of them null, with only the values that they use."""
        codes = self.codes[rows]
        used = np.zeros(len(self.values), bool)
        used[codes] = True
        return Encoded((np.cumsum(used) - 1)[codes], self.values.filter(pa.array(used)))


def encode(column: pa.ChunkedArray) -> Encoded:
    """Return the column's strings as numbers, in order of first appearance."""
    encoded = column.dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], column.type)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Encoded(codes, encoded.dictionary)
