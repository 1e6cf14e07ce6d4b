"""Users and items: their ids, and the features that files give of them and of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interactions.cleaning import Drops, drop_bad_ids, drop_repeated_ids
from interactions.columns import as_numbers, as_strings, as_vectors
from interactions.config import FeatureConfig
from interactions.errors import UserError
from interactions.reader import read_table


@dataclass(frozen=True)
class EntityFile:
    """The usable rows of a users or items file."""

    ids: pa.Array
    """[entities] distinct strings."""
    features: pa.Table
    """[entities]: by feature name."""
    drops: Drops


@dataclass(frozen=True)
class Entities:
    """All users or all items, of the log and of their file."""

    ids: np.ndarray
    """[entities] object, str: the log's first, then those only the file mentions."""
    features: pa.Table
    """[entities]: by feature name, null where unknown."""
    without_row: int | None
    """How many of the log's the file does not mention; None where there is no file."""


def read_entities(
    paths: str | tuple[str, ...] | None,
    *,
    base: Path,
    key: str,
    features: Sequence[FeatureConfig],
    delimiter: str,
    what: str,
) -> EntityFile | None:
    """Return the usable rows of a users or items file, or None where there is none.

    Rows with a bad id and all but the first row of an id are dropped and counted. Raises
    `UserError` where features are asked for without a file, or a column is missing or not of its
    kind.
    """
    if paths is None:
        if features:
            raise UserError(
                f"{what[:-1]}_features asks for {features[0].name!r}, but data.{what} names no "
                f"file; give data.{what} or leave {what[:-1]}_features out"
            )
        return None
    columns = list(dict.fromkeys([key, *(feature.source for feature in features)]))
    table = read_table(
        paths, base=base, delimiter=delimiter, only=columns, strings=(key,), what=what
    )
    drops = Drops.of(table.num_rows)
    drop_bad_ids(drops, table[key], name=key)
    drop_repeated_ids(drops, table[key], name=key)
    table = table.filter(pa.array(drops.keep))
    ids = pa.concat_arrays(table[key].chunks) if table.num_rows else pa.array([], pa.string())
    return EntityFile(ids, feature_table(table, features), drops)


def join_entities(log_ids: pa.Array, file: EntityFile | None) -> Entities:
    """Return the log's distinct ids and the file's others, with the file's features."""
    if file is None:
        return Entities(_as_objects(log_ids), pa.table({}), None)
    others = file.ids.filter(pc.invert(pc.is_in(file.ids, value_set=log_ids)))
    ids = pa.concat_arrays([log_ids, others])
    row = pc.index_in(ids, value_set=file.ids)  # null where the file has no such row
    missing = row.slice(0, len(log_ids)).null_count
    return Entities(_as_objects(ids), file.features.take(row), missing)


def feature_table(table: pa.Table, features: Sequence[FeatureConfig]) -> pa.Table:
    """Return the features' columns by feature name, each as its kind wants it.

    Numbers become float64 (null where infinite or unknown), vectors lists of float32, all else
    strings. Raises `UserError` where a column cannot be read as its kind.
    """
    return pa.table({feature.name: _column(table, feature) for feature in features})


def _column(table: pa.Table, feature: FeatureConfig) -> pa.ChunkedArray | pa.Array:
    column = table[feature.source]
    if feature.kind == "numeric":
        remedy = f"give feature {feature.name!r} the kind categorical, or clean the column"
        numbers = as_numbers(column, name=feature.source, remedy=remedy)
        return pa.array(numbers, mask=~np.isfinite(numbers))
    if feature.kind == "vector":
        return as_vectors(column, name=feature.source)
    return as_strings(column, separator=feature.separator)


def _as_objects(ids: pa.Array) -> np.ndarray:
    return ids.to_numpy(zero_copy_only=False).astype(object)
