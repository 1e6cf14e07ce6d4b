"""Values of categories and words of texts, a column each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, diags

from interactions.config import FeatureConfig


def value_columns(
    column: pa.ChunkedArray,
    feature: FeatureConfig,
    seen: np.ndarray,
    *,
    most: int,
    fewest: int = 1,
) -> csr_matrix:
    """Return a column for each frequent value of a category, or word of a text, [rows, columns].

    Rows of several values are scaled to length 1, so that many say no more than one.

    Args:
        column: of the feature.
        feature: which kind it is, and what separates its values.
        seen: [rows] bool: whose values count.
        most: columns, those of the most frequent values.
        fewest: rows that a value must stand on.
    """
    row, values = _split(column, feature)
    codes = pc.utf8_trim_whitespace(values).dictionary_encode()
    code = codes.indices.to_numpy()
    names = codes.dictionary.to_numpy(zero_copy_only=False)
    counted = np.bincount(code[seen[row]], minlength=len(names)) * (names != "")
    frequent = np.argsort(-counted, kind="stable")[:most]
    frequent = frequent[counted[frequent] >= max(fewest, 1)]
    place = np.full(len(names), -1)
    place[frequent] = np.arange(len(frequent))
    kept = place[code] >= 0
    shape = (len(seen), len(frequent))
    found = csr_matrix((np.ones(kept.sum()), (row[kept], place[code[kept]])), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    length = np.sqrt(np.asarray(found.sum(axis=1)).ravel())
    return csr_matrix(diags(1 / np.maximum(length, 1.0)) @ found)


def _split(column: pa.ChunkedArray, feature: FeatureConfig) -> tuple[np.ndarray, pa.Array]:
    """The row and the text of each value."""
    texts = column.cast(pa.string()).fill_null("").combine_chunks()
    if feature.kind == "text":
        parts = pc.split_pattern_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+")
    elif feature.kind == "categories" and feature.separator:
        parts = pc.split_pattern(texts, feature.separator)
    else:
        return np.arange(len(texts)), texts
    return pc.list_parent_indices(parts).to_numpy(), pc.list_flatten(parts)
