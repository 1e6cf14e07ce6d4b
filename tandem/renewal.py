"""A changed catalogue, later events and forgotten users, for models that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.manifest import RenewalEntry
from interactions.entities import EntityFile, read_entities
from interactions.errors import UserError
from interactions.loading import load
from interactions.log import EventLog, Labels
from interactions.split import TEST, Windows
from tandem.data import Data
from tandem.forgotten import Forgotten


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise than in the run."""

    items: Path | None = None
    """The whole catalogue as it is now, with the columns of `data.items`."""
    events: Path | None = None
    """Events, with the columns of `data.events`; those that the run knows are passed over."""
    forgotten: Forgotten = field(default_factory=Forgotten)
    """Users of whom nothing may be left."""


@dataclass(frozen=True)
class Renewed:
    """Data as it is now, in the windows of the training."""

    data: Data
    offered: np.ndarray
    """[items] bool: which items are in the catalogue; the others only stand in histories."""
    entry: RenewalEntry
    notes: tuple[str, ...]
    """What was passed over in the files, for people."""


@dataclass(frozen=True)
class _Catalogue:
    """Items as a file has them now."""

    log: EventLog
    offered: np.ndarray
    new: int
    changed: int


def renew(data: Data, changes: Changes) -> Renewed:
    """Return `data` with `changes`.

    New events fall into the window after the training, so that nothing that was learnt from
    changes; a forgotten user's events go from every window.

    Raises:
        UserError: a file cannot be read, holds nothing usable or lacks a column, or nobody is left.
    """
    notes: list[str] = []
    before = data.log
    windows = _without(data.windows, changes.forgotten)
    users, events = len(windows.log.user_ids), len(windows.log)
    if changes.events is not None:
        windows = _with_events(windows, _read_events(data, changes, notes=notes))
    catalogue = _Catalogue(windows.log, np.ones(len(windows.log.item_ids), bool), 0, 0)
    if changes.items is not None:
        catalogue = _with_items(windows.log, _read_items(data, changes.items, notes=notes))
    windows = replace(windows, log=catalogue.log)
    known = len(before.item_ids)
    entry = RenewalEntry(
        items_offered=int(catalogue.offered.sum()),
        items_new=int(catalogue.offered[known:].sum()),
        items_changed=catalogue.changed,
        items_withdrawn=int((~catalogue.offered[:known]).sum()),
        events_new=len(windows.log) - events,
        users_new=len(windows.log.user_ids) - users,
        users_forgotten=len(before.user_ids) - users,
    )
    refreshed = data.refreshed or changes.events is not None
    renewed = Data(windows.log, windows, data.config, refreshed=refreshed)
    return Renewed(renewed, catalogue.offered, entry, tuple(notes))


def _without(windows: Windows, users: Forgotten) -> Windows:
    """Take users out of a log and its windows."""
    log = windows.log
    stay = ~users.among(log.user_ids)
    if stay.all():
        return windows
    if not stay.any():
        raise UserError(
            f"all {len(stay):,} users of the run are forgotten, and nothing is left to serve; "
            "fit a run on other data"
        )
    rows = np.flatnonzero(stay[log.user])
    place = np.cumsum(stay) - 1
    rest = replace(
        _rows(log, rows),
        user=place[log.user[rows]].astype(np.int32),
        user_ids=log.user_ids[stay],
        user_table=_picked(log.user_table, np.flatnonzero(stay)),
    )
    ends = windows.ends if windows.ends.ndim == 1 else windows.ends[:, stay]
    return Windows(rest, windows.kind, windows.window[rows], ends)


def _read_events(data: Data, changes: Changes, *, notes: list[str]) -> EventLog:
    """Read the new events, without those of forgotten users."""
    assert changes.events is not None
    # nothing is trained or judged on a renewed log, so its events need no weights; what showed them
    # may well be this very recommender, and not the policy that the ranker knows by propensities
    only_events = {
        "items": None,
        "users": None,
        "item_features": (),
        "user_features": (),
        "weight": None,
        "propensity": None,
    }
    config = data.config.data.model_copy(
        update={"events": str(changes.events.absolute()), **only_events}
    )
    loaded = load(config, data.config.tasks, base=Path())
    notes += [f"events: {line}" for line in loaded.report.lines()[2:]]
    log = loaded.log
    gone = changes.forgotten.among(log.user_ids)
    used = np.flatnonzero(~gone)
    place = np.cumsum(~gone) - 1
    rest = _rows(log, np.flatnonzero(~gone[log.user]))
    return replace(rest, user=place[rest.user].astype(np.int32), user_ids=log.user_ids[used])


def _with_events(windows: Windows, new: EventLog) -> Windows:
    """Append events that the log does not have, as what came after the training."""
    old = windows.log
    users, items = _joined(old.user_ids, new.user_ids), _joined(old.item_ids, new.item_ids)
    new = replace(
        new,
        user=users.row[new.user],
        item=items.row[new.item],
        user_ids=users.ids,
        item_ids=items.ids,
    )
    old = replace(
        old,
        user_ids=users.ids,
        item_ids=items.ids,
        user_table=_lengthened(old.user_table, len(users.ids)),
        item_table=_lengthened(old.item_table, len(items.ids)),
    )
    if old.has_times:
        new = _rows(new, np.flatnonzero(~_known(old, new)))
    else:  # a user's new events come after those that are there
        count = np.bincount(old.user, minlength=len(users.ids))
        new = replace(new, time=new.time + count[new.user])
    both = _concatenated(old, new)
    order = np.lexsort((both.time, both.user))  # stable: of equal times, the log's come first
    window = np.concatenate([windows.window, np.full(len(new), TEST, np.int8)])
    ends = windows.ends
    if ends.ndim == 2:
        later = np.full((len(ends), len(users.ids) - ends.shape[1]), np.iinfo(np.int64).max)
        ends = np.concatenate([ends, later], axis=1)
    return Windows(_rows(both, order), windows.kind, window[order], ends)


@dataclass(frozen=True)
class _Joined:
    """Ids of two logs, those of the first at their rows."""

    ids: np.ndarray
    row: np.ndarray
    """[ids of the second] int32: their rows."""


def _joined(old: np.ndarray, new: np.ndarray) -> _Joined:
    row = pc.index_in(pa.array(new, pa.string()), value_set=pa.array(old, pa.string()))
    row = row.fill_null(-1).to_numpy().astype(np.int32)
    unknown = row < 0
    row[unknown] = len(old) + np.arange(unknown.sum())
    return _Joined(np.concatenate([old, new[unknown]]), row)


def _known(old: EventLog, new: EventLog) -> np.ndarray:
    """Say which rows of `new` [rows] stand in `old` too, bool."""
    columns = ("user", "item", "time", "chosen", "exposure")

    def keys(log: EventLog) -> np.ndarray:
        return np.rec.fromarrays([np.asarray(getattr(log, name)) for name in columns])

    return np.isin(keys(new), keys(old))


def _rows(log: EventLog, rows: np.ndarray) -> EventLog:
    """Return the given rows of a log, with all of its users and items."""
    return replace(
        log,
        **{name: getattr(log, name)[rows] for name in ("user", "item", "time")},
        **{name: getattr(log, name)[rows] for name in ("chosen", "exposure")},
        labels={
            task: Labels(label.value[rows], label.known_at[rows], label.absent)
            for task, label in log.labels.items()
        },
        event_table=_picked(log.event_table, rows),
        weight=None if log.weight is None else log.weight[rows],
        propensity=None if log.propensity is None else log.propensity[rows],
    )


def _concatenated(old: EventLog, new: EventLog) -> EventLog:
    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(old, name), getattr(new, name)])

    return replace(
        old,
        **{name: both(name) for name in ("user", "item", "time", "chosen", "exposure")},
        labels={
            task: Labels(
                np.concatenate([label.value, new.labels[task].value]),
                np.concatenate([label.known_at, new.labels[task].known_at]),
                label.absent,
            )
            for task, label in old.labels.items()
        },
        event_table=_stacked(old.event_table, new.event_table),
        weight=None,
        propensity=None
        if old.propensity is None
        else np.concatenate([old.propensity, np.full(len(new), np.nan)]),
    )


def _read_items(data: Data, path: Path, *, notes: list[str]) -> EntityFile:
    config = data.config.data
    file = read_entities(
        str(path.absolute()),
        base=Path(),
        key=config.item_id,
        features=config.item_features,
        delimiter=config.delimiter,
        what="items",
    )
    assert file is not None, "a path was given"
    if not len(file.ids):
        raise UserError(f"items: none of the rows of {path} has a usable {config.item_id}")
    notes += [f"items: dropped {count:,}: {why}" for why, count in file.drops.counts.items()]
    return file


def _with_items(log: EventLog, file: EntityFile) -> _Catalogue:
    """Take the catalogue for what the file says; items that it does not name are not offered."""
    joined = _joined(log.item_ids, file.ids.to_numpy(zero_copy_only=False).astype(object))
    items = len(joined.ids)
    place = np.full(items, -1)
    place[joined.row] = np.arange(len(joined.row))
    old = _lengthened(log.item_table, items)
    # the file's rows first, then what was known before
    rows = np.where(place >= 0, place, len(file.ids) + np.arange(items))
    table = _picked(_stacked(file.features, old), rows)
    known = np.flatnonzero(place[: len(log.item_ids)] >= 0)
    now, then = _picked(table, known), _picked(old, known)
    changed = [_differs(now[name], then[name]) for name in now.column_names]
    return _Catalogue(
        replace(log, item_ids=joined.ids, item_table=table),
        offered=place >= 0,
        new=items - len(log.item_ids),
        changed=int(reduce(np.logical_or, changed, np.zeros(len(known), bool)).sum()),
    )


def _differs(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """Say where two columns differ, bool; what is null in both does not."""
    if pa.types.is_list(one.type):
        pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
        return np.array([a != b for a, b in pairs], bool)
    apart = pc.fill_null(pc.not_equal(one, other), True).to_numpy()
    return apart & ~(one.is_null().to_numpy() & other.is_null().to_numpy())


def _picked(table: pa.Table, rows: np.ndarray) -> pa.Table:
    return table.take(pa.array(rows)) if table.num_columns else table


def _lengthened(table: pa.Table, rows: int) -> pa.Table:
    """Add rows of which nothing is known."""
    more = rows - table.num_rows
    return _stacked(
        table, pa.table({field.name: pa.nulls(more, field.type) for field in table.schema})
    )


def _stacked(above: pa.Table, below: pa.Table) -> pa.Table:
    """Put tables of the same columns above each other."""
    if not above.num_columns:
        return above
    return pa.concat_tables([above, below.select(above.column_names)], promote_options="permissive")
