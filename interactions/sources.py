"""The files of a data set, read as their configuration says and not yet cleaned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from interactions.conditions import Condition
from interactions.config import DataConfig, TaskConfig
from interactions.entities import EntityFile, read_entities
from interactions.errors import UserError
from interactions.labels import label_columns
from interactions.reader import read_table
from interactions.timestamps import Times, read_times


@dataclass(frozen=True)
class Sources:
    """What the files hold, before anything is dropped."""

    events: pa.Table
    times: Times
    users: EntityFile | None
    items: EntityFile | None


def read_sources(config: DataConfig, tasks: Mapping[str, TaskConfig], *, base: Path) -> Sources:
    """Return the events, users and items of `config`; paths are relative to `base`.

    Raises `UserError` where a file or column is missing or not what it is said to be.
    """
    _refuse_events_without_types(config, tasks)
    events = _read_events(config, tasks, base=base)
    items = read_entities(
        config.items,
        base=base,
        key=config.item_id,
        features=config.item_features,
        delimiter=config.delimiter,
        what="items",
    )
    users = read_entities(
        config.users,
        base=base,
        key=config.user_id,
        features=config.user_features,
        delimiter=config.delimiter,
        what="users",
    )
    return Sources(events, _read_times(config, events), users, items)


def _refuse_events_without_types(config: DataConfig, tasks: Mapping[str, TaskConfig]) -> None:
    for name, task in tasks.items():
        if task.event and config.event is None:
            raise UserError(
                f"task {name!r} counts events of the types {list(task.event)}, but data.event does "
                "not name the column of types; give data.event, or the task a `column`"
            )


def _read_events(config: DataConfig, tasks: Mapping[str, TaskConfig], *, base: Path) -> pa.Table:
    needed = [config.user_id, config.item_id]
    strings = [config.user_id, config.item_id]
    if config.timestamp is not None:
        needed.append(config.timestamp)
    if config.event is not None:
        needed.append(config.event.column)
        strings.append(config.event.column)
    if config.weight is not None:
        needed.append(config.weight)
    if config.propensity is not None:
        needed.append(config.propensity)
    if config.positive is not None:
        needed.extend(Condition.parse(config.positive).columns)
    for task in tasks.values():
        needed.extend(label_columns(task))
    needed.extend(feature.source for feature in config.event_features)
    return read_table(
        config.events,
        base=base,
        delimiter=config.delimiter,
        columns=config.columns,
        only=list(dict.fromkeys(needed)),
        strings=strings,
        what="events",
    )


def _read_times(config: DataConfig, table: pa.Table) -> Times:
    if config.timestamp is None:
        rows = table.num_rows
        return Times(np.arange(rows), np.ones(rows, bool), "none; rows are in order")
    return read_times(table[config.timestamp], unit=config.timestamp_unit, name=config.timestamp)
