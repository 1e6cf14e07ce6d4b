"""What the ranker knows of a query and a candidate, as plain columns for trees.

But for ids of users and items, texts of users and context, and what a feature of several values has
beyond the first three, of which trees can make little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from benchmarks.ranking.problem import Problem
from features.encoders import FeatureSpec
from features.entities import EncodedTable
from features.label_factors import LabelFactors
from features.neighbours import Neighbours, neighbours
from features.statistics import Statistics
from interactions.histories import PAD
from interactions.queries import Queries
from tandem.data import ITEM_ID, USER_ID

_CHUNK = 256
_RECENT = 20
"""Latest items of a history whose neighbours are looked for, as many as the ranker takes."""
_TEXT = 16
"""Columns that a text is reduced to."""
_VALUES = 3
"""Codes of a feature that has several."""
_MOST_CODES = 255
"""A column of more distinct codes is a number to the trees: as many as LightGBM has bins."""


@dataclass(frozen=True)
class Columns:
    """Columns of query and candidate pairs, on what is known at a cut."""

    problem: Problem
    statistics: Statistics
    near: Neighbours
    factors: tuple[LabelFactors, ...]
    """Of each task's labels, as the ranker has them."""

    @classmethod
    def known_from(cls, problem: Problem, *windows: int) -> Columns:
        """Return columns whose counts, means, neighbours and factors come from `windows`."""
        data = problem.data
        near = neighbours(
            data.log, data.windows.rows(*windows), width=data.config.ranking.neighbours
        )
        factors = tuple(data.label_factors(*windows).values())
        return cls(problem, data.statistics(*windows), near, factors)

    def table(self, queries: Queries, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the columns of `items` [Q, C] int32 with retrieval `scores`, [Q, C, columns]."""
        chunks = [
            self._chunk(queries.take(index), items[index], scores[index])
            for index in _parts(len(queries))
        ]
        return np.concatenate(chunks) if chunks else np.zeros((0, items.shape[1], 1), np.float32)

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """The columns of `table` whose values are codes, of no more than 255, and no numbers."""
        found: list[int] = []
        # score, times chosen, and two columns of each neighbourhood come first
        place = 2 + 2 * 2
        for spec in self._items.specs:
            if spec.name == ITEM_ID:
                continue
            width = self._content_width(spec)
            if _is_code(spec):
                found += _few(spec, range(place, place + width))
            # the last one says how the feature agrees with the history
            place += width + 1
        place += len(self.factors)
        place += self.statistics.item.shape[1] + self.statistics.user.shape[1] + 1
        for table, identifier in ((self._users, USER_ID), (self._context, "")):
            for spec in _kept(table, identifier):
                width = max(spec.width, 1)
                if _is_code(spec):
                    found += _few(spec, range(place, place + width))
                place += width
        return tuple(found)

    def _content_width(self, spec: FeatureSpec) -> int:
        if spec.kind == "text":
            return self._texts[spec.name].shape[1]
        width = self._items.arrays[spec.name][:1].size
        return min(width, _VALUES) if _is_code(spec) else width

    def _chunk(self, queries: Queries, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
        data = self.problem.data
        history = data.histories.before(
            queries.user, queries.time, length=data.config.ranking.history
        )
        past = history.items
        latest = np.where(
            np.arange(past.shape[1]) >= history.count[:, np.newaxis] - _RECENT, past, PAD
        )
        last = np.where(np.arange(past.shape[1]) == history.count[:, np.newaxis] - 1, past, PAD)
        columns = [
            scores,
            self._spread(past, np.ones(past.shape, np.float32), items).total,
            *self._neighbourhood(latest, items),
            *self._neighbourhood(last, items),
            *self._content(past, items),
            *(self._expected(one, queries.user, items) for one in self.factors),
        ]
        wide = [
            np.stack(columns, axis=-1).astype(np.float32),
            self.statistics.item[items],
            self._tile(self.statistics.user[queries.user], items),
            self._tile(history.count[:, np.newaxis], items),
            self._tile(_numbers(self._users, USER_ID, queries.user), items),
            self._tile(_numbers(self._context, "", queries.row), items),
        ]
        return np.concatenate([part.astype(np.float32) for part in wide], axis=-1)

    def _expected(self, factors: LabelFactors, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What labels say of each pair, [Q, C]."""
        every = np.repeat(users, items.shape[1])
        return factors.predict(every, items.ravel()).reshape(items.shape)

    def _neighbourhood(self, past: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
        """How near candidates are to what the same people chose: sum and maximum, [Q, C] each."""
        near, weight = self.near.item[past], self.near.weight[past]
        flat = [values.reshape(len(past), -1) for values in (near, weight)]
        found = self._spread(flat[0], flat[1], items)
        return [found.total, found.largest]

    def _content(self, past: np.ndarray, items: np.ndarray) -> Iterator[np.ndarray]:
        """Each feature of the candidates, and how it agrees with the history, [Q, C] each."""
        real = (past != PAD).astype(np.float32)
        count = np.maximum(real.sum(axis=1, keepdims=True), 1.0)
        for spec in self._items.specs:
            if spec.name == ITEM_ID:
                continue
            values = self._items.arrays[spec.name]
            if _is_code(spec):
                ids = values.reshape(len(values), -1)
                yield from np.moveaxis(ids[items], -1, 0)[:_VALUES].astype(np.float32)
                yield self._share(spec, ids, past, items) / count
            else:
                vectors = self._texts[spec.name] if spec.kind == "text" else values
                mean = np.einsum("qhd,qh->qd", vectors[past], real) / count
                yield from np.moveaxis(vectors[items], -1, 0)
                if spec.kind == "numeric":
                    yield vectors[items][..., 0] - mean[:, np.newaxis, 0]
                else:
                    yield np.einsum("qcd,qd->qc", vectors[items], mean)

    def _share(
        self, spec: FeatureSpec, ids: np.ndarray, past: np.ndarray, items: np.ndarray
    ) -> np.ndarray:
        """How much of the history has a value of the candidate, per value it has, [Q, C]."""
        wanted, theirs = ids[items], ids[past]  # [Q, C, W], [Q, H, W]
        counts = np.zeros((len(past), spec.size), np.float32)
        place = np.arange(len(past))[:, np.newaxis, np.newaxis]
        there = (theirs > 0) & (past != PAD)[:, :, np.newaxis]
        np.add.at(counts, (np.broadcast_to(place, theirs.shape)[there], theirs[there]), 1.0)
        counts[:, 0] = 0.0  # unknown values agree with nothing
        agreed = counts[place, wanted].sum(axis=-1)
        return agreed / np.maximum((wanted > 0).sum(axis=-1), 1)

    def _spread(self, items: np.ndarray, weight: np.ndarray, asked: np.ndarray) -> _Found:
        """Sum and maximum of `weight` by item of `items` [Q, n] (-1 is none), at `asked` [Q, C]."""
        shape = (len(items), len(self.problem.data.log.item_ids) + 1)
        total, largest = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        at = np.broadcast_to(np.arange(len(items))[:, np.newaxis], items.shape)
        there = items >= 0
        np.add.at(total, (at[there], items[there]), weight[there])
        np.maximum.at(largest, (at[there], items[there]), weight[there])
        rows = np.arange(len(items))[:, np.newaxis]
        return _Found(total[rows, asked], largest[rows, asked])

    def _tile(self, values: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[Q, n] -> [Q, C, n]."""
        shape = (len(values), items.shape[1], values.shape[1])
        return np.broadcast_to(values[:, np.newaxis, :], shape)

    @property
    def _items(self) -> EncodedTable:
        return self.problem.encoded.items

    @property
    def _users(self) -> EncodedTable:
        return self.problem.encoded.users

    @property
    def _context(self) -> EncodedTable:
        return self.problem.encoded.context

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        """By text feature, [items + 1, columns]: its buckets, weighed by rarity and reduced."""
        result = {}
        for spec in self._items.specs:
            if spec.kind != "text":
                continue
            buckets = self._items.arrays[spec.name]
            row = np.repeat(np.arange(len(buckets)), buckets.shape[1])
            there = buckets.ravel() > 0
            counts = csr_matrix(
                (np.ones(there.sum()), (row[there], buckets.ravel()[there])),
                shape=(len(buckets), spec.size),
            )
            weighed = TfidfTransformer().fit_transform(counts)
            width = min(_TEXT, min(weighed.shape) - 1)
            result[spec.name] = (
                TruncatedSVD(width, random_state=0).fit_transform(weighed).astype(np.float32)
            )
        return result


@dataclass(frozen=True)
class _Found:
    total: np.ndarray
    largest: np.ndarray


def _numbers(table: EncodedTable, identifier: str, rows: np.ndarray) -> np.ndarray:
    """Return an entity's features but its id and texts at `rows` [Q], [Q, columns] float32."""
    kept = [
        table.arrays[spec.name][rows].reshape(len(rows), -1).astype(np.float32)
        for spec in _kept(table, identifier)
    ]
    return np.concatenate([np.zeros((len(rows), 0), np.float32), *kept], axis=1)


def _kept(table: EncodedTable, identifier: str) -> list[FeatureSpec]:
    return [spec for spec in table.specs if spec.name != identifier and spec.kind != "text"]


def _is_code(spec: FeatureSpec) -> bool:
    return spec.kind in ("categorical", "categories")


def _few(spec: FeatureSpec, places: range) -> list[int]:
    return list(places) if spec.size <= _MOST_CODES else []


def _parts(count: int) -> list[np.ndarray]:
    return [np.arange(n, min(n + _CHUNK, count)) for n in range(0, count, _CHUNK)]
