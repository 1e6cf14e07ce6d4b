"""From the config to a log, its windows, and the encoded tables of a stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console

from features.entities import EncodedTable, EntityEncoders
from features.label_factors import LabelFactors
from features.neighbours import neighbours
from features.statistics import Statistics, statistics
from interactions import loading, storage
from interactions.blocks import count_values
from interactions.config import FeatureConfig
from interactions.errors import UserError
from interactions.histories import Histories
from interactions.log import NEVER, EventLog
from interactions.queries import Queries, queries
from interactions.ragged import Ragged
from interactions.split import RANKING, RETRIEVAL, Windows, known_labels, split
from ranking.config import LOGGING_POLICY
from ranking.model import Past
from retrieval.model import RetrieverInputs
from retrieval.trends import Trends
from tandem.config import TandemConfig
from tandem.expected_labels import factors_by_task

USER_ID, ITEM_ID = "user_id", "item_id"
"""Names of the ids among the encoded features."""
_LEAST_PROPENSITIES = 50
"""Of the retrieval window, for a policy to be learnt from."""


@dataclass(frozen=True)
class Data:
    """The log, cut into windows."""

    log: EventLog
    windows: Windows
    config: TandemConfig
    refreshed: bool = False
    """Whether events after the training were added, which popularity is to count."""

    @cached_property
    def histories(self) -> Histories:
        """What every user chose before any moment."""
        return Histories.of(self.log)

    @property
    def repeats(self) -> bool:
        """Whether an item chosen before can be recommended again."""
        return self.config.repeats == "keep"

    @cached_property
    def knows_policy(self) -> bool:
        """Whether propensities tell what the policy that filled the log would show.

        A ranker learns on what was known of the retrieval window: what is known only later would be
        a number that it never saw.
        """
        if self.log.propensity is None or not self.config.ranking.logging_policy:
            return False
        early = self.log.propensity[self.windows.rows(RETRIEVAL)]
        early = early[~np.isnan(early)]
        return len(early) >= _LEAST_PROPENSITIES and early.min() < early.max()

    def queries(self, window: int) -> Queries:
        """One query per event of `window` that a recommender could have answered."""
        return queries(self.log, self.windows.rows(window), repeats=self.repeats)

    def seen(self, queries: Queries) -> Ragged:
        """Per query, the items to leave out: what its user had chosen before, unless repeated."""
        if self.repeats:
            return Ragged.empty(len(queries))
        return self.histories.seen(queries.row)

    def labels(self, window: int) -> dict[str, np.ndarray]:
        """By task: the labels [rows] float32 as known when `window` was over."""
        return {
            task: known_labels(self.log, self.windows, task=task, code=window)
            for task, config in self.config.trained_tasks.items()
            if config.kind != "retrieval"
        }

    def _told(self, window: int) -> dict[str, np.ndarray]:
        """The labels, and what the policy that filled the log thought of each exposure.

        At equal predictions, what was shown is better than what was not, as far as the policy knew
        what the ranker does not: with the propensity known the two are alike (Rosenbaum and Rubin
        1983, "The central role of the propensity score").
        """
        told = self.labels(window)
        if self.knows_policy:
            assert self.log.propensity is not None, "somebody's propensities are known"
            # float32, as labels are: the sums of equal ones are exact
            told[LOGGING_POLICY] = np.log(self.log.propensity).astype(np.float32)
        return told

    def statistics(self, *windows: int) -> Statistics:
        """Count the rows of `windows`, with the labels known when the last of them was over."""
        return statistics(self.log, self.windows.rows(*windows), self._told(windows[-1]))

    def past(self, *windows: int) -> Past:
        """What `windows` say, for the ranker to gather from."""
        near = neighbours(
            self.log, self.windows.rows(*windows), width=self.config.ranking.neighbours
        )
        return Past(self.statistics(*windows), near, self.label_factors(*windows))

    def label_factors(self, *windows: int) -> dict[str, LabelFactors]:
        """By task, the factors of the labels known when the last of `windows` was over."""
        return factors_by_task(
            self.log,
            self.windows.rows(*windows),
            self._told(windows[-1]),
            config=self.config.data,
        )

    def shifted(self) -> Data:
        """Return the windows for a refit on everything.

        What was trained on and validated by becomes the past: retrieval and ranking become the
        retrieval window, validation and test the ranking window.
        """
        window = np.where(self.windows.window <= RANKING, RETRIEVAL, RANKING).astype(np.int8)
        never = np.full_like(self.windows.ends[0], NEVER)
        ends = np.stack([self.windows.ends[RANKING], never, never, never])
        return Data(self.log, Windows(self.log, self.windows.kind, window, ends), self.config)


def read_data(config: TandemConfig, *, run: Path, console: Console) -> Data:
    """Read, clean and split the data, and keep it in the run; a run that has it maps it again."""
    folder = run / "data"
    if not (folder / "log.json").exists():
        loaded = loading.load(config.data, config.tasks, base=Path())
        windows = split(loaded.log, config.split)
        lines = loaded.report.lines() + windows.describe()
        report = loaded.report.to_dict() | {"lines": lines}
        # first the report: a run that has the log is taken to have both
        (run / "data_report.json").write_text(json.dumps(report, indent=1) + "\n")
        storage.save(loaded.log, folder, windows=windows)
    for line in json.loads((run / "data_report.json").read_text())["lines"]:
        console.print(f"  {line}", highlight=False, markup=False)
    stored = storage.load(folder)
    assert stored.windows is not None, "a run's log is stored with its windows"
    return Data(stored.log, stored.windows, config)


@dataclass(frozen=True)
class Encoded:
    """The encoded tables of one stage."""

    users: EncodedTable
    items: EncodedTable
    context: EncodedTable
    """By log row; the last row is the context of a request that carries none."""
    context_encoders: EntityEncoders | None
    """What made it; None where events have no features."""
    user_encoders: EntityEncoders | None
    """What made the features of users, without their ids; None where they have no features."""
    trends: Trends
    has_times: bool

    @property
    def retriever_inputs(self) -> RetrieverInputs:
        """What a retriever gathers from."""
        return RetrieverInputs(
            self.users,
            self.items,
            self.context.specs,
            USER_ID,
            ITEM_ID,
            self.trends,
            self.has_times,
        )


def encode(data: Data, rows: np.ndarray, *, folder: Path) -> Encoded:
    """Learn the encoders from `rows` ([n] int64) of the log alone, and encode everything.

    Encoders that are already in `folder` are used as they are.
    """
    log, config = data.log, data.config.data
    context_encoders = _context_encoders(data, rows, folder=folder / "context")
    user_encoders, users = _encode_entity(
        data,
        USER_ID,
        config.user_features,
        log.user_table,
        log.user_ids,
        count_values(log.user, rows, size=len(log.user_ids)),
        folder=folder / "users",
    )
    _, items = _encode_entity(
        data,
        ITEM_ID,
        config.item_features,
        log.item_table,
        log.item_ids,
        count_values(log.item, rows, size=len(log.item_ids)),
        folder=folder / "items",
    )
    return Encoded(
        users=users,
        items=items,
        context=(
            EncodedTable((), {})
            if context_encoders is None
            else context_encoders.encode(log.event_table)
        ),
        context_encoders=context_encoders,
        user_encoders=user_encoders.without(USER_ID) if config.user_features else None,
        trends=Trends.of(log, _counted_rows(data, rows)),
        has_times=log.has_times,
    )


def _counted_rows(data: Data, rows: np.ndarray) -> np.ndarray | None:
    """Rows whose events make the trends; None for all.

    Under a split by time a trend may roll up to each query, as its history does: a moment counts
    what came strictly before. Where the last events of every user are held out, they lie among
    the training's own times, and only the training's `rows` count, until nothing is judged any
    more and later events are added.
    """
    everything = data.windows.kind == "time" or data.refreshed
    return None if everything else rows


def _encode_entity(
    data: Data,
    id_name: str,
    features: tuple[FeatureConfig, ...],
    table: pa.Table,
    ids: np.ndarray,
    counts: np.ndarray,
    *,
    folder: Path,
) -> tuple[EntityEncoders, EncodedTable]:
    columns = {feature.name: table[feature.name] for feature in features}
    everything = pa.table({id_name: pa.array(ids, pa.string()), **columns})
    config = data.config.features

    def fit(partial: Path) -> EntityEncoders:
        return EntityEncoders.fit_with_ids(
            features, everything, id_name=id_name, counts=counts, config=config, folder=partial
        )

    encoders = _encoders(folder, fit)
    return encoders, encoders.encode(everything)


def _context_encoders(data: Data, rows: np.ndarray, *, folder: Path) -> EntityEncoders | None:
    features, table = data.config.data.event_features, data.log.event_table
    if not features:
        return None
    config = data.config.features

    def fit(partial: Path) -> EntityEncoders:
        return EntityEncoders.fit(
            features, table.take(pa.array(rows)), config=config, folder=partial
        )

    return _encoders(folder, fit)


def _encoders(folder: Path, fit: Callable[[Path], EntityEncoders]) -> EntityEncoders:
    """Load the encoders in `folder`, fitted first where it has none: whole or not at all."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        fit(partial)
        partial.rename(folder)
    try:
        return EntityEncoders.load(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the encoders in {folder} cannot be read ({type(error).__name__}); restore them, or "
            f"train again into another folder with `tandem fit`"
        ) from error
