"""Batches of candidate lists and pages of exposures, gathered from the encoded tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.backend import tf
from interactions.candidates import Candidates, Exposures
from interactions.queries import Queries
from ranking.config import RankingConfig
from ranking.pages import Pages
from ranking.past import Past
from ranking.scoring import Scorer

_MOST_EXPOSURES = 4096
"""Exposures in a batch at the most."""
_CONTEXT_DROPOUT = 0.2
_ALIKE = 8
"""Batches whose lists are put in the order of their histories' lengths."""
_DAY = 86_400_000_000
"""In the log's microseconds."""


@dataclass(frozen=True)
class Examples:
    """What a ranker learns from, or is validated on."""

    candidates: Candidates
    exposures: Exposures
    past: Past
    """What was known before the window that these come from."""
    weight: np.ndarray | None = None
    """[log rows] float32: how much each event counts in the losses; None where all do alike."""


class Batches:
    """Gathers batches of `examples`: an epoch draws lists and pages anew, `parts` has them all.

    The lists fill an epoch's batches, and fewer than one batch of them are left out. Of the pages
    each batch takes its share, or as many as `_MOST_EXPOSURES` allows: of a log with many exposures
    per choice an epoch sees a part, the next epoch another.

    A batch costs as much as its longest history makes it, and half of the histories are often a
    tenth as long as the longest: lists of like length share a batch.
    """

    def __init__(
        self, examples: Examples, scorer: Scorer, *, config: RankingConfig, seed: int
    ) -> None:
        self._examples, self._scorer, self._seed = examples, scorer, seed
        self.pages = Pages.of(examples.exposures, scorer.context)
        lists = len(examples.candidates.queries)
        self._size = min(config.batch_queries, lists)
        self.steps = max(lists // max(self._size, 1), 1)
        self._most = max(_MOST_EXPOSURES // self.pages.item.shape[1], 1)
        self._shown = min(-(-len(self.pages) // self.steps), self._most)
        asked = examples.candidates.queries
        starts, ends = scorer.histories.spans(asked.user, asked.time)
        self._length = np.minimum(ends - starts, config.history)
        both = (asked, examples.exposures.queries)
        latest = max((int(one.time.max()) for one in both if len(one)), default=0)
        self._list_weight, self._exposure_weight = (
            _weights(one, examples.weight, latest=latest, half_life=config.half_life_days)
            for one in both
        )

    def epoch(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the batches of epoch `number`, the same ones each time."""
        rng = np.random.default_rng([self._seed, number])
        lists = self._alike(rng.permutation(len(self._examples.candidates.queries)), rng)
        pages = rng.permutation(len(self.pages))
        for step, some in enumerate(lists):
            yield self.batch(
                some,
                pages[step * self._shown : (step + 1) * self._shown],
                rng=rng,
            )

    def parts(self) -> Iterator[dict[str, Any]]:
        """Yield everything once: the shortest histories first, and pages in order.

        There are as many batches as an epoch has, or as the exposures need; some may be without
        lists or without pages.
        """
        count = max(self.steps, -(-len(self.pages) // self._most))
        lists = np.array_split(np.argsort(self._length, kind="stable"), count)
        pages = np.array_split(np.arange(len(self.pages)), count)
        for some, others in zip(lists, pages, strict=True):
            yield self.batch(some, others)

    def batch(
        self, lists: np.ndarray, pages: np.ndarray, *, rng: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Gather candidate lists and pages by index; `rng` hides the context of some."""
        candidates, exposures = self._examples.candidates.take(lists), self._examples.exposures
        asked, shown = candidates.queries, self.pages.take(pages)
        return {
            "choices": self._scorer.inputs(asked, _hidden(asked.row, rng))
            | {
                "items": tf.constant(candidates.item),
                "score": tf.constant(candidates.retrieval_score),
                "label": tf.constant(candidates.label),
                "log_weight": tf.constant(candidates.log_weight),
                "weight": tf.constant(self._list_weight[lists]),
            },
            "exposures": self._scorer.inputs(shown.queries, _hidden(shown.queries.row, rng))
            | {
                "items": tf.constant(shown.item),
                "score": tf.constant(shown.spread(exposures.retrieval_score, filler=0.0)),
                "labels": {
                    task: tf.constant(shown.spread(values, filler=np.nan))
                    for task, values in exposures.labels.items()
                },
                "weight": tf.constant(shown.spread(self._exposure_weight, filler=0.0)),
            },
        }

    def _alike(self, lists: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Cut `lists` into an epoch's batches, in random order, some of them sorted at a time."""
        lists = lists[: self.steps * self._size]
        block = _ALIKE * self._size
        blocks = (lists[start : start + block] for start in range(0, len(lists), block))
        ordered = [some[np.argsort(self._length[some], kind="stable")] for some in blocks]
        batches = np.concatenate(ordered).reshape(self.steps, self._size)
        return list(rng.permutation(batches))


def _weights(
    queries: Queries, logged: np.ndarray | None, *, latest: int, half_life: float | None
) -> np.ndarray:
    """How much each of `queries` counts, [n] float32: as `logged` by row, halved by its age."""
    weight = np.ones(len(queries)) if logged is None else logged[queries.row]
    if half_life is not None:
        weight = weight * 0.5 ** ((latest - queries.time) / _DAY / half_life)
    return weight.astype(np.float32)


def _hidden(rows: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Replace some of the context's rows by -1, the unknown: many requests will not carry any."""
    return rows if rng is None else np.where(rng.random(len(rows)) < _CONTEXT_DROPOUT, -1, rows)
