"""Which sequences to encode so that each query finds its history among their states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interactions.histories import Histories
from interactions.queries import Queries

_PASS_EVENTS = 16_384
"""Events, padding included, that are encoded at once."""
_PASS_QUERIES = 4096


@dataclass(frozen=True)
class Pass:
    """Sequences of similar length and the queries that are answered from them."""

    query: np.ndarray
    """[Q] int64: which queries these are."""
    window: np.ndarray
    """[Q] int32: the sequence that begins with a query's history."""
    count: np.ndarray
    """[Q] int32: how many of its events are the history."""
    items: np.ndarray
    """[W, L] int32: item rows of the sequences, padded with any; L is at least 1."""
    times: np.ndarray
    """[W, L] int64."""


def passes(histories: Histories, queries: Queries, *, length: int) -> Iterator[Pass]:
    """Yield passes that answer each query once, from its latest `length` events.

    All queries of a user whose whole past fits into `length` are answered from one sequence: the
    state after n events does not depend on what follows. Only longer pasts, which lose another
    first event with each query, are encoded one by one.
    """
    start, end = histories.spans(queries.user, queries.time)
    start = np.maximum(start, end - length)
    # queries whose histories begin at the same event share the longest of these
    begin, sequence = np.unique(start, return_inverse=True)
    stop = np.zeros(len(begin), np.int64)
    np.maximum.at(stop, sequence, end)
    by_length = np.argsort(stop - begin, kind="stable")
    rank = np.empty_like(by_length)
    rank[by_length] = np.arange(len(by_length))
    place = rank[sequence]
    order = np.argsort(place, kind="stable")
    asked = np.bincount(place, minlength=len(begin))
    first = 0
    for low, high in _groups((stop - begin)[by_length], asked):
        chosen = by_length[low:high]
        number = int(asked[low:high].sum())
        query = order[first : first + number]
        first += number
        width = max(int((stop - begin)[chosen].max()), 1)
        at = begin[chosen, np.newaxis] + np.arange(width)
        at = np.where(at < stop[chosen, np.newaxis], at, 0)
        there = bool(len(histories.items))
        yield Pass(
            query=query,
            window=(place[query] - low).astype(np.int32),
            count=(end - start)[query].astype(np.int32),
            items=histories.items[at] if there else np.zeros(at.shape, np.int32),
            times=histories.times[at] if there else np.zeros(at.shape, np.int64),
        )


def _groups(lengths: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut sequences, sorted by length, into groups of not too many events and queries."""
    low, queries = 0, 0
    for place, length in enumerate(lengths):
        queries += int(asked[place])
        events = (place - low + 1) * max(int(length), 1)
        if place > low and (events > _PASS_EVENTS or queries > _PASS_QUERIES):
            yield low, place
            low, queries = place, int(asked[place])
    if low < len(lengths):
        yield low, len(lengths)
