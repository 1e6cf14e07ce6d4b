"""The candidates table: what the ranker will train on, made by a retriever that saw none of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.candidates import Candidates
from interactions.queries import Queries
from interactions.ragged import Ragged, entries_of
from retrieval.search import Searcher


def sample_candidates(
    searcher: Searcher,
    queries: Queries,
    *,
    seen: Ragged,
    available: np.ndarray,
    retrieved: int,
    negatives: int,
    random_share: float,
    seed: int,
) -> Candidates:
    """Draw each query's training candidates: the chosen item, hard negatives and random ones.

    The hard negatives are drawn from the query's `retrieved` best items, the random ones from all
    others, and each carries the log of how many items it stands for. A softmax corrected by these
    weights estimates the one over the whole catalogue; so a low retrieval score does not give
    away that an item was put in only because it was chosen.

    Args:
        searcher: the retriever of the window before these queries.
        queries: [Q] queries.
        seen: per query, item rows to leave out.
        available: [items] int64, when an item first appeared.
        retrieved: how many items a served request retrieves.
        negatives: negatives per query.
        random_share: share of them drawn from outside the retrieved ones.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    top = searcher.search(queries, k=retrieved, seen=seen).item
    random = round(negatives * random_share)
    hard = min(negatives - random, top.shape[1])
    chosen = queries.item[:, np.newaxis]
    near = _draw_from(rng, np.where(top == chosen, -1, top), hard)
    far = _draw_outside(rng, queries, top=top, seen=seen, available=available, size=random)
    items = np.concatenate([chosen, near.item, far.item], axis=1)
    weight = np.concatenate(
        [np.zeros(chosen.shape), near.log_weight, far.log_weight], axis=1
    ).astype(np.float32)
    weight[items < 0] = 0.0
    order = np.argsort(np.where(items < 0, np.iinfo(np.int32).max, items), axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1).astype(np.int32)
    weight = np.take_along_axis(weight, order, axis=1)
    return Candidates(queries, items, searcher.score(queries, items), weight)


@dataclass(frozen=True)
class _Drawn:
    item: np.ndarray
    """[Q, n] item rows, -1 where fewer could be drawn."""
    log_weight: np.ndarray
    """[Q, n] log of how many items each stands for."""


def _draw_from(rng: np.random.Generator, pool: np.ndarray, size: int) -> _Drawn:
    """Draw `size` of each row of `pool` [Q, n] (-1 is nothing) without replacement."""
    there = pool >= 0
    order = np.argsort(rng.random(pool.shape) + ~there, axis=1)[:, :size]
    item = np.take_along_axis(pool, order, axis=1)
    drawn = np.maximum((item >= 0).sum(axis=1), 1)
    weight = np.log(np.maximum(there.sum(axis=1), 1) / drawn)
    return _Drawn(item, np.broadcast_to(weight[:, np.newaxis], item.shape))


def _draw_outside(
    rng: np.random.Generator,
    queries: Queries,
    *,
    top: np.ndarray,
    seen: Ragged,
    available: np.ndarray,
    size: int,
) -> _Drawn:
    """Draw `size` items per query from those that had appeared, but are neither `top` nor seen."""
    by_age = np.argsort(available, kind="stable")
    count = np.searchsorted(available[by_age], queries.time, side="right")
    # three times as many are drawn as needed, since some fall on what must be left out
    place = (rng.random((len(queries), 3 * size)) * count[:, np.newaxis]).astype(np.int64)
    drawn = by_age[place]
    listed = entries_of(seen, np.arange(len(queries)))
    catalogue = len(available)
    everyone = np.arange(len(queries))[:, np.newaxis]
    forbidden = np.concatenate(
        [
            listed.position * catalogue + listed.item,
            (everyone * catalogue + top)[top >= 0],
            everyone.ravel() * catalogue + queries.item,
        ]
    )
    key = everyone * catalogue + drawn
    first = np.zeros(key.size, bool)
    first[np.unique(key, return_index=True)[1]] = True
    keep = first.reshape(key.shape) & ~np.isin(key, forbidden)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :size]
    item = np.where(
        np.take_along_axis(keep, order, axis=1), np.take_along_axis(drawn, order, 1), -1
    )
    outside = count - np.bincount(np.unique(forbidden) // catalogue, minlength=len(queries))
    number = np.maximum((item >= 0).sum(axis=1), 1)
    weight = np.log(np.maximum(outside, number) / number)
    return _Drawn(item, np.broadcast_to(weight[:, np.newaxis], item.shape))
