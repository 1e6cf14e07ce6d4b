"""What is known of users or items as plain columns: content, and which others they met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

from features.values import value_columns
from interactions.config import FeatureConfig

_MOST_VALUES = 64
"""Values of a feature that get a column, the most frequent ones."""
_DIRECTIONS = 24
"""Of who met whom."""
_SHRINK = 5.0
"""Added to how many each has met, so that one meeting does not decide what an entity is like."""


def content_traits(
    table: pa.Table, features: Sequence[FeatureConfig], seen: np.ndarray
) -> np.ndarray:
    """Return the content of the rows of `table` as numbers of about one size, [rows, columns].

    A column for each frequent value of a category, rows of several values scaled to length 1; the
    place of a number, and whether it is missing. Texts and vectors are left out. `seen` [rows] bool
    says whose values count; a `table` without columns has no rows.
    """
    columns = [np.zeros((len(seen), 0))]
    for feature in features:
        if feature.kind in ("categorical", "categories"):
            found = value_columns(table[feature.name], feature, seen, most=_MOST_VALUES)
            columns.append(found.toarray())
        elif feature.kind == "numeric":
            columns.append(_number(table[feature.name].to_numpy().astype(np.float64), seen))
    return np.concatenate(columns, axis=1)


def meeting_traits(
    user: np.ndarray, item: np.ndarray, *, users: int, items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what users and items are like by whom they met, [users, d] and [items, d].

    The strongest directions of the matrix of pairs with shrunk norms, and of items the log of how
    many each has met. (Of users that number tells how long the log has known them, which means
    another thing later.) Which items a user took up says something of how they are rated, whatever
    the labels are (Koren 2008, "Factorization meets the neighborhood", section 4).

    Args:
        user: [pairs] int user rows.
        item: [pairs] int item rows.
        users: how many there are.
        items: how many there are.
    """
    met = csr_matrix((np.ones(len(user)), (user, item)), shape=(users, items))
    met.sum_duplicates()
    met.data[:] = 1.0
    counts = [np.asarray(met.sum(axis=axis)).ravel() for axis in (1, 0)]
    near = diags(1 / np.sqrt(counts[0] + _SHRINK)) @ met @ diags(1 / np.sqrt(counts[1] + _SHRINK))
    directions = min(_DIRECTIONS, *(int((count > 0).sum()) - 1 for count in counts))
    sides = [np.zeros((users, 0)), np.zeros((items, 0))]
    if directions > 0:
        # a fixed start of the iteration: the same pairs give the same directions
        left, strength, right = svds(csr_matrix(near), k=directions, v0=np.ones(min(near.shape)))
        assert left is not None and right is not None, "both sides were asked for"
        sides = [left * strength, right.T * strength]
    first, second = (
        _scaled(side, count > 0) / np.sqrt(max(directions, 1))
        for side, count in zip(sides, counts, strict=True)
    )
    popular = _scaled(np.log1p(counts[1])[:, np.newaxis], counts[1] > 0)
    return first, np.concatenate([second, popular], axis=1)


def _number(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The place among the known ones in [-1, 1], 0 where missing, and 1 where missing."""
    missing = ~np.isfinite(values)
    known = np.sort(values[seen & ~missing])
    place = 2 * np.searchsorted(known, values) / max(len(known), 1) - 1
    return np.stack([np.where(missing, 0.0, place), missing], axis=1)


def _scaled(columns: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1 among the `seen`."""
    if not seen.any():
        return np.zeros_like(columns)
    spread = columns[seen].std(axis=0)
    return (columns - columns[seen].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
