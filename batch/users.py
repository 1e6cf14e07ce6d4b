"""Reading the users of a batch in pieces of one size, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from export.signatures import USER_ID
from interactions.columns import as_strings
from interactions.errors import UserError
from interactions.reader import PARQUET_SUFFIXES


def count_users(file: Path) -> int | None:
    """Return how many users a Parquet file holds; None for a CSV file, which does not say.

    Raises UserError where the file cannot be read.
    """
    if not is_parquet(file):
        return None
    try:
        return pq.ParquetFile(file).metadata.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(file, error) from error


def read_users(file: Path, *, size: int) -> Iterator[list[str]]:
    """Yield the `user_id` column of a Parquet or CSV file in lists of `size`, the last shorter.

    Raises UserError where the file cannot be read, has no such column, or misses an id.
    """
    waiting: list[str] = []
    number = 0
    for column in _columns(file, size=size):
        waiting += checked_ids(column, file=file, first_row=number)
        number += len(column)
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def checked_ids(column: pa.ChunkedArray, *, file: Path, first_row: int = 0) -> list[str]:
    """Return a column of ids as strings; raises UserError where one is missing."""
    ids = as_strings(column).to_pylist()
    if None in ids:
        raise UserError(
            f"{file}: row {first_row + ids.index(None) + 1} has no {USER_ID}; "
            "remove the row, or give the user an id"
        )
    return ids


def is_parquet(file: Path) -> bool:
    """Say whether the file's name is one of Parquet."""
    return file.suffix in PARQUET_SUFFIXES


def csv_options() -> pa_csv.ConvertOptions:
    """Return how ids in CSV are read: as they are written, since 007 is no number."""
    return pa_csv.ConvertOptions(
        column_types={USER_ID: pa.string()}, null_values=[""], strings_can_be_null=True
    )


def _columns(file: Path, *, size: int) -> Iterator[pa.ChunkedArray]:
    """Yield the column of ids in pieces as they are read."""
    try:
        if is_parquet(file):
            stream = pq.ParquetFile(file)
            _need_column(file, stream.schema_arrow.names)
            batches = stream.iter_batches(batch_size=size, columns=[USER_ID])
        else:
            batches = pa_csv.open_csv(file, convert_options=csv_options())
            _need_column(file, batches.schema.names)
        for batch in batches:
            yield pa.chunked_array([batch.column(batch.schema.get_field_index(USER_ID))])
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(file, error) from error


def _need_column(file: Path, names: list[str]) -> None:
    if USER_ID not in names:
        raise UserError(
            f"{file} has no column {USER_ID!r}, only {', '.join(names)}; rename the column of ids"
        )


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{file} cannot be read ({reason}); give a Parquet or CSV file with a column {USER_ID!r}"
    )
