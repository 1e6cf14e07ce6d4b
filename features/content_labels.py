"""What an item's content says of its labels, learnt from those of other items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags, hstack, vstack
from scipy.sparse.linalg import lsqr

from features.values import value_columns
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
    blocks = [
        value_columns(table[one.name], one, seen, most=_MOST_VALUES, fewest=_FEWEST) for one in told
    ]
    found = csr_matrix(hstack([csr_matrix((len(seen), 0)), *blocks]))
    assert found.shape is not None, "a matrix has a shape"
    return csr_matrix(vstack([found, csr_matrix((1, found.shape[1]))]))


def said_by_content(content: csr_matrix, item: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return what each item's content says of its label, as deviations from the mean, [items].

    A ridge regression of the items' mean labels on their content, the mean of all apart. An item
    that has labels is told by what the others teach (five folds), so that what is said of it is as
    uncertain as of one without any; of these, all teach. The penalty is the one that does best on
    the first fold. Where content says less there than the mean alone, it says nothing at all.

    Args:
        content: [items, columns].
        item: [n] int item rows.
        label: [n] float.
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
        off = mean[some] - np.average(mean[some], weights=weight[some])
        return _ridge(known[some], off, weight[some], penalty)

    held = fold == 0
    off = mean[held] - np.average(mean[~held], weights=weight[~held])
    first = {penalty: known[held] @ learn(~held, penalty) for penalty in _PENALTIES}
    errors = {p: float(np.square(said - off) @ weight[held]) for p, said in first.items()}
    best = min(errors, key=lambda penalty: errors[penalty])
    if errors[best] >= float(np.square(off) @ weight[held]):
        return np.zeros(items)
    result = content @ learn(np.ones(len(rows), bool), best)
    result[rows[held]] = first[best]
    for number in range(1, _FOLDS):
        held = fold == number
        result[rows[held]] = known[held] @ learn(~held, best)
    return result


def _ridge(known: csr_matrix, mean: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of the columns, [columns]."""
    root = np.sqrt(weight)
    scaled = diags(root) @ known
    return lsqr(scaled, root * mean, damp=np.sqrt(penalty), iter_lim=_STEPS)[0]
