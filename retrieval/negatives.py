"""A batch's candidates, and how likely each was to be among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.negative_sources import (
    BatchTargets,
    Mined,
    Popular,
    Source,
    Targets,
    Uniform,
    Whole,
)
from retrieval.negatives_config import NegativesConfig
from retrieval.occurrence import CountedOccurrence, Occurrence, StreamingFrequency

_NO_NEGATIVE = np.float32(-1e9)
"""Added to the logit of what must not count; finite, so that no gradient is NaN."""
_MOST_PLACES = 2**20
"""Of a hashed array, which bounds the memory of streaming frequencies."""
_LEAST = 1e-9
"""Smallest probability that is divided by."""


@dataclass(frozen=True)
class Drawn:
    """The distinct items of a batch and what corrects their logits."""

    items: np.ndarray
    """[C] int32: item rows, ascending."""
    positive: np.ndarray
    """[Q] int32: the column of each query's target."""
    correction: np.ndarray
    """[W, C] float32, or [1, C] where it is the same for all windows: what is added to an item's
    logit as a negative of a window's queries. Minus the log of the probability that it is there,
    0 where the window brought it itself, -1e9 where it is no negative."""
    row: np.ndarray | None
    """[Q] int32: the row of `correction` of each query; None where there is one row for all."""
    log_probability: np.ndarray
    """[C] float32: log of the probability to be drawn, for queries of other windows."""

    @property
    def positive_correction(self) -> np.ndarray:
        """[Q] float32: what the classical logQ form adds to the target's own logit."""
        return -self.log_probability[self.positive]


class Negatives:
    """Draws a batch's candidates from a mixture of sources.

    Each distinct item stands once. Dividing its weight by the probability that it is there makes
    the sum over the candidates an unbiased estimate of the sum over the catalogue (Horvitz and
    Thompson 1952). The probability is that of the sampler which really draws, and for a query
    whose window is in the batch: whole windows come in together, so the other windows are drawn
    from the rest, and what the query's own window brings is there for certain.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        *,
        catalogue: np.ndarray,
        mined: Mined | None = None,
        targets_count: bool = True,
    ) -> None:
        """Combine independent sources; see `of`."""
        self._sources = sources
        self._catalogue = catalogue
        self._mined = mined
        self._targets_count = targets_count

    @classmethod
    def of(
        cls,
        config: NegativesConfig,
        *,
        catalogue: np.ndarray,
        windows_with_item: np.ndarray | None,
        windows: int,
        batch_windows: int,
        seed: int,
    ) -> Negatives:
        """Set up the sources that `config` asks for, for one epoch.

        What is kept of earlier batches goes with the epoch, so that a resumed run is the same run.

        Args:
            config: which sources, and how much of each.
            catalogue: [n] int32, ascending: item rows that may be negatives; has all targets.
            windows_with_item: [items] int, training windows in which an item is a target; None
                under streaming frequencies, where nobody counts.
            windows: number of training windows; an epoch deals them out without replacement.
            batch_windows: windows in a batch; the last one may have less.
            seed: of the hash functions of streaming frequencies.

        Raises:
            ValueError: counts are missing.
        """
        if len(catalogue) <= max(config.full_up_to, config.uniform + config.popular):
            return cls((Whole(catalogue),), catalogue=catalogue)
        streaming = config.frequency == "streaming"
        if not streaming and windows_with_item is None:
            raise ValueError("windows_with_item is None; frequency: counts needs it")
        counts = np.zeros(catalogue[-1] + 1, np.int64)
        if windows_with_item is not None and not streaming:
            counts = windows_with_item
        sources: list[Source] = []
        if config.in_batch:
            occurrence: Occurrence = (
                StreamingFrequency(
                    places=min(len(catalogue), _MOST_PLACES),
                    batch_windows=batch_windows,
                    rng=np.random.default_rng(seed),
                )
                if streaming
                else CountedOccurrence(counts, windows=windows)
            )
            sources.append(Targets(occurrence, kept_batches=config.kept_batches))
        if config.uniform:
            sources.append(Uniform(catalogue, number=config.uniform))
        if config.popular:
            weights = np.where(counts > 0, counts**config.popular_power, 0.0)
            sources.append(Popular(catalogue, weights=weights, number=config.popular))
        mined = None
        if config.hard:
            brought = counts if config.in_batch else np.zeros_like(counts)
            mined = Mined(brought, windows=windows)
            sources.append(mined)
        return cls(tuple(sources), catalogue=catalogue, mined=mined, targets_count=config.in_batch)

    @property
    def wants_hard(self) -> bool:
        """Whether negatives mined from the index are asked for and of use."""
        return self._mined is not None

    def mine(self, rows: np.ndarray) -> None:
        """Take mined items for every training window, from now on.

        Args:
            rows: [windows, h] int32 item rows, -1 for none; distinct within a window, and none of
                them among the window's own items. Those outside the catalogue are left out.

        Raises:
            ValueError: the config asks for no hard negatives.
        """
        if self._mined is None:
            raise ValueError("the config has no hard negatives; set negatives.hard above 0")
        place = np.searchsorted(self._catalogue, rows).clip(max=len(self._catalogue) - 1)
        self._mined.mine(np.where(self._catalogue[place] == rows, rows, -1))

    def draw(
        self,
        batch: BatchTargets,
        rng: np.random.Generator,
        *,
        remove: np.ndarray | None = None,
    ) -> Drawn:
        """Draw the candidates of a batch.

        Args:
            batch: its targets and windows.
            rng: randomness.
            remove: [W, n] int32 item rows that are no negatives of each window's queries, as those
                the user has elsewhere in the window; -1 for none.
        """
        brought = [source.draw(batch, rng) for source in self._sources]
        chosen = np.concatenate([one.items for one in brought])
        items, place = np.unique(np.concatenate([batch.targets, chosen]), return_inverse=True)
        positive, chosen = np.split(place.astype(np.int32), [len(batch.targets)])
        absence = np.prod([source.absence(items) for source in self._sources], axis=0)
        probability = 1.0 - absence
        shared = np.log(np.maximum(probability, _LEAST)).astype(np.float32)
        correction = np.where(probability > _LEAST, -shared, _NO_NEGATIVE)
        if not self._targets_count:
            # a target that no source has drawn only stands there for its own query
            drawn = np.zeros(len(items), bool)
            drawn[chosen] = True
            correction[~drawn] = _NO_NEGATIVE
        window = np.concatenate([one.window for one in brought])
        certain = window >= 0
        row = batch.window
        if remove is None and not certain.any():
            table, row = correction[np.newaxis, :], None
        else:
            table = np.repeat(correction[np.newaxis, :], len(batch.index), axis=0)
            table[window[certain], chosen[certain]] = 0.0
        if remove is not None:
            _remove(table, items, remove)
        return Drawn(items.astype(np.int32), positive, table, row, shared)


def _remove(table: np.ndarray, items: np.ndarray, remove: np.ndarray) -> None:
    """Make `remove` [W, n] no negatives in `table` [W, C], whose columns are `items` [C]."""
    place = np.minimum(np.searchsorted(items, remove), len(items) - 1)
    window, column = np.nonzero(items[place] == remove)
    table[window, place[window, column]] = _NO_NEGATIVE
