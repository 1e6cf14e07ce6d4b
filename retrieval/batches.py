"""What a retriever is trained on, epoch by epoch: windows of users' sequences with negatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interactions.blocks import count_values, spans, whole_spans
from interactions.errors import UserError
from interactions.log import NEVER, EventLog
from interactions.queries import first_choices
from retrieval.config import RetrievalConfig
from retrieval.mining import Miner
from retrieval.negative_sources import BatchTargets
from retrieval.negatives import Negatives
from retrieval.windows import (
    BatchMaker,
    Sequences,
    Windows,
    cut_windows,
    length_classes,
    windows_per_batch,
)

LOSS_INPUTS = (
    "items",
    "sequence",
    "sequence_time",
    "state",
    "known",
    "previous",
    "candidates",
    "positive",
    "positive_correction",
    "correction",
    "correction_row",
    "first_seen",
    "user",
    "time",
    "weight",
)
"""The parts of a batch that the model's loss takes."""


class Batches:
    """The batches of each epoch, the same ones whenever they are asked for."""

    def __init__(
        self, log: EventLog, rows: np.ndarray, *, config: RetrievalConfig, repeats: bool, seed: int
    ) -> None:
        """Take the log's training `rows` [n] int64, ascending.

        Raises `UserError` where nothing is chosen.
        """
        self.sequences = Sequences.of(log, rows)
        if not len(self.sequences.row):
            raise UserError(
                "there is no chosen event to train the retriever on; check data.positive"
            )
        self._log, self._config, self._repeats, self._seed = log, config, repeats, seed
        self._targets = log.chosen if repeats else first_choices(log)
        self._maker = BatchMaker(log, self.sequences, self._targets)
        items = count_values(log.item, rows, size=len(log.item_ids))
        self._catalogue = np.flatnonzero(items).astype(np.int32)
        self._first_seen = _first_seen(log, rows)
        self._miner: Miner | None = None
        self.steps = sum(
            -(-len(group) // windows_per_batch(windows, group, events=config.batch_events))
            for windows in [self._cut(np.random.default_rng([seed, 0]))]
            for group in length_classes(windows, length=config.history)
        )
        """Batches in an epoch; random cuts make it a few more or less."""

    def mine_with(self, miner: Miner) -> None:
        """Let `miner` look for hard negatives at the start of each epoch."""
        self._miner = miner

    def epoch(self, number: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the batches of epoch `number`.

        Each is that of `BatchMaker.gather`, with, of its targets, `user` [Q] int32 and `time` [Q]
        int64; `items` [M] int32, the distinct items of the batch; `candidates` [C] int32, which of
        them are candidates, and `positive` [Q] int32, which of these the targets; `correction`
        [W or 1, C] float32 and, where it is W, `correction_row` [Q] int32, see `Drawn`;
        `positive_correction` [Q] float32; `first_seen` [C] int64, when they appeared; `weight` [Q]
        float32, how much a target counts, where the log says.
        `sequence` is of places among the `items`.
        """
        rng = np.random.default_rng([self._seed, number])
        windows = self._cut(rng)
        mined = None if self._miner is None else self._miner.mine(windows)
        plan: list[tuple[Negatives, Windows, np.ndarray]] = []
        for group in length_classes(windows, length=self._config.history):
            members = windows.take(group)
            size = windows_per_batch(windows, group, events=self._config.batch_events)
            negatives = self._negatives(members, size)
            if mined is not None and negatives.wants_hard:
                negatives.mine(mined[group])
            order = rng.permutation(len(group))
            plan += [
                (negatives, members, order[at : at + size]) for at in range(0, len(order), size)
            ]
        for place in rng.permutation(len(plan)):
            batch = self._batch(*plan[place], rng=rng)
            if len(batch["row"]):
                yield batch

    def _cut(self, rng: np.random.Generator) -> Windows:
        return cut_windows(self.sequences, length=self._config.history, rng=rng)

    def _negatives(self, windows: Windows, batch_windows: int) -> Negatives:
        """Sources for windows of one class, whose batches have `batch_windows`."""
        config = self._config.negatives
        counted = None
        if config.frequency == "counts":
            counted = self._windows_with_item(windows)
        return Negatives.of(
            config,
            catalogue=self._catalogue,
            windows_with_item=counted,
            windows=len(windows),
            batch_windows=batch_windows,
            seed=self._seed,
        )

    def _windows_with_item(self, windows: Windows) -> np.ndarray:
        """[items] int64: in how many of `windows` an item is a target."""
        counts = np.zeros(len(self._log.item_ids), np.int64)
        for span in whole_spans(np.concatenate([[0], np.cumsum(windows.length)])):
            start, stop = windows.start[span], windows.stop[span]
            window, row = self._events(start, stop)
            item = self._log.item[row]
            if self._repeats:
                item = np.unique(np.stack([window, item]), axis=1)[1]
            counts += np.bincount(item, minlength=len(counts))
        return counts

    def _events(self, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The targets of windows [W]: whose each is, and its log row, [n] int64 each."""
        window = np.repeat(np.arange(len(start)), stop - start)
        begins = np.cumsum(stop - start) - (stop - start)
        row = self.sequences.row[np.arange(len(window)) + np.repeat(start - begins, stop - start)]
        kept = self._targets[row]
        return window[kept], row[kept]

    def _batch(
        self,
        negatives: Negatives,
        members: Windows,
        index: np.ndarray,
        *,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        batch = self._maker.gather(members.take(index), rng)
        sequence, row = batch["sequence"], batch["row"]
        asked = BatchTargets(self._log.item[row], batch["window"], index)
        # what the user chooses before or after is no negative, where it cannot be asked for again
        remove = None if self._repeats else sequence
        drawn = negatives.draw(asked, rng, remove=remove)
        items, place = np.unique(
            np.concatenate([drawn.items, sequence.ravel()]), return_inverse=True
        )
        result = batch | {
            "items": items.astype(np.int32),
            "sequence": place[len(drawn.items) :].reshape(sequence.shape).astype(np.int32),
            "candidates": place[: len(drawn.items)].astype(np.int32),
            "positive": drawn.positive,
            "positive_correction": drawn.positive_correction.astype(np.float32),
            "correction": drawn.correction,
            "first_seen": self._first_seen[drawn.items],
            "user": self._log.user[row],
            "time": self._log.time[row],
        }
        if self._log.weight is not None:
            result["weight"] = self._log.weight[row]
        if drawn.row is not None:
            result["correction_row"] = drawn.row.astype(np.int32)
        return result


def _first_seen(log: EventLog, rows: np.ndarray) -> np.ndarray:
    """[items] int64: when each item first appeared, as the training rows alone tell."""
    first = np.full(len(log.item_ids), NEVER if log.has_times else np.iinfo(np.int64).min)
    for part in spans(len(rows)):
        np.minimum.at(first, log.item[rows[part]], log.time[rows[part]])
    return first
