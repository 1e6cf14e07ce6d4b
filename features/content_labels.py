"""What an item's content says of its labels, learnt from those of other items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, diags, hstack
from scipy.sparse.linalg import lsqr

from interactions.config import FeatureConfig

_KINDS = ("categorical", "categories", "text")
_FEWEST = 3
"""Rows that a value or word must stand on to be learnt from."""
_MOST_VALUES = 50_000
"""Values or words of one feature, the most frequent ones."""
_SHRINK = 5.0
"""Labels that an item needs to count half of what it could."""
_PENALTIES = (1.0, 3.0, 10.0, 30.0)
"""Of the ridge regression, from which the labels choose."""
_FOLDS = 5
_STEPS = 50
"""Of the solver, whose early end holds back as the penalty does."""


def content_values(
    table: pa.Table, features: Sequence[FeatureConfig], seen: np.ndarray
) -> csr_matrix:
    """Return all values of categories and all words of texts, [rows + 1, columns] of 0 and above.

    A column for each that several rows have. What a row has of one feature is scaled to length 1,
    so that a long text says no more than a short one. The last row is the unknown one's, without
    content. `seen` [rows] bool says whose values count.
    """
    told = [feature for feature in features if feature.kind in _KINDS]
    blocks = [_values(*_split(table[one.name], one), seen) for one in told]
    return csr_matrix(hstack([csr_matrix((len(seen) + 1, 0)), *blocks]))


def said_by_content(content: csr_matrix, item: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return what each item's content says of its label, as deviations from the mean, [items].

    A ridge regression of the items' mean labels. An item that has labels is told by what the others
    teach (five folds), so that what is said of it is as uncertain as of one without any; of these,
    all teach. The penalty is the one that does best on the folds.

    Args:
        content: [items, columns].
        item: [n] int item rows.
        label: [n] float, of mean 0.
    """
    items = len(content.indptr) - 1
    count = np.bincount(item, minlength=items).astype(np.float64)
    rows = np.flatnonzero(count)
    if content.nnz == 0 or len(rows) < 2 * _FOLDS:
        return np.zeros(items)
    mean = np.bincount(item, weights=label, minlength=items)[rows] / count[rows]
    weight = count[rows] / (count[rows] + _SHRINK)
    known = content[rows]
    # folds of the items, drawn by lot: rows are often in an order that means something
    fold = np.random.default_rng(0).permutation(len(rows)) % _FOLDS

    def learn(some: np.ndarray, penalty: float) -> np.ndarray:
        return _ridge(known[some], mean[some], weight[some], penalty)

    said = np.zeros((len(_PENALTIES), len(rows)))
    for place, penalty in enumerate(_PENALTIES):
        for number in range(_FOLDS):
            held = fold == number
            said[place, held] = known[held] @ learn(~held, penalty)
    errors = np.square(said - mean) @ weight
    best = int(errors.argmin())
    result = content @ learn(np.ones(len(rows), bool), _PENALTIES[best])
    result[rows] = said[best]
    return result


def _ridge(known: csr_matrix, mean: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of the columns, [columns]."""
    root = np.sqrt(weight)
    scaled = diags(root) @ known
    return lsqr(scaled, root * mean, damp=np.sqrt(penalty), iter_lim=_STEPS)[0]


def _split(column: pa.ChunkedArray, feature: FeatureConfig) -> tuple[np.ndarray, pa.Array]:
    """The row and the text of each value, or of each word of a text."""
    texts = column.cast(pa.string()).fill_null("").combine_chunks()
    if feature.kind == "categorical":
        return np.arange(len(texts)), texts
    if feature.kind == "text":
        parts = pc.split_pattern_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+")
    else:
        parts = pc.split_pattern(texts, feature.separator)
    return pc.list_parent_indices(parts).to_numpy(), pc.list_flatten(parts)


def _values(row: np.ndarray, values: pa.Array, seen: np.ndarray) -> csr_matrix:
    codes = pc.utf8_trim_whitespace(values).dictionary_encode()
    code = codes.indices.to_numpy()
    names = codes.dictionary.to_numpy(zero_copy_only=False)
    counted = np.bincount(code[seen[row]], minlength=len(names)) * (names != "")
    frequent = np.argsort(-counted, kind="stable")[:_MOST_VALUES]
    frequent = frequent[counted[frequent] >= _FEWEST]
    place = np.full(len(names), -1)
    place[frequent] = np.arange(len(frequent))
    kept = place[code] >= 0
    shape = (len(seen) + 1, len(frequent))
    found = csr_matrix((np.ones(kept.sum()), (row[kept], place[code[kept]])), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    length = np.sqrt(np.asarray(found.sum(axis=1)).ravel())
    return csr_matrix(diags(1 / np.maximum(length, 1.0)) @ found)
