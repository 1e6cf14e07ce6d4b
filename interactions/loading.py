"""From files to the interaction log: read, clean, sort, label, and report what was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interactions.cleaning import (
    CleaningReport,
    Drops,
    Encoded,
    drop_bad_ids,
    drop_repeated_rows,
    encode,
)
from interactions.columns import as_numbers
from interactions.conditions import Condition
from interactions.config import DataConfig, TaskConfig
from interactions.entities import Entities, feature_table, join_entities
from interactions.errors import UserError
from interactions.labels import (
    Rows,
    attribute_event,
    attribute_values,
    carries_event,
    label_columns,
    label_warnings,
    outside,
    own_labels,
    read_labels,
)
from interactions.log import EventLog, Labels
from interactions.sources import Sources, read_sources
from interactions.timestamps import Times

_LEAST_PROPENSITY = 1e-12
"""Whoever was shown something less likely stands for more people than there are."""


@dataclass(frozen=True)
class Loaded:
    """The log, and what cleaning did to get it."""

    log: EventLog
    report: CleaningReport


@dataclass(frozen=True)
class _Pairs:
    """Who and what, by row."""

    user: Encoded
    item: Encoded


@dataclass(frozen=True)
class _Clean:
    """Kept rows in the log's total order: user, time, order in the file."""

    table: pa.Table
    user: Encoded
    item: Encoded
    time: np.ndarray
    """[rows] int64."""
    carried: Mapping[str, np.ndarray]
    """By task with a column: the label each row carries, float64 [rows]."""


@dataclass(frozen=True)
class _Roles:
    """What the rows are to the log."""

    chosen: np.ndarray
    """[rows] bool."""
    exposure: np.ndarray
    """[rows] bool."""


@dataclass(frozen=True)
class _Assembled:
    """The log and what it was joined from."""

    log: EventLog
    users: Entities
    items: Entities


def load(config: DataConfig, tasks: Mapping[str, TaskConfig], *, base: Path) -> Loaded:
    """Return the log of `config` with the labels of `tasks`; paths are relative to `base`.

    Rows of event types that are neither exposure nor chosen do not stay in the log; they give
    labels to the exposures they follow. Raises `UserError` where files or columns are missing,
    empty or not what they are said to be.
    """
    labelled = {name: task for name, task in tasks.items() if task.kind != "retrieval"}
    sources = read_sources(config, labelled, base=base)
    drops = Drops.of(sources.events.num_rows)
    clean = _clean(sources, config, labelled, drops=drops)
    roles = _roles(clean.table, config)
    labels = _labels(clean, roles, config, labelled)
    assembled = _assemble(clean, roles, labels, config, sources)
    return Loaded(assembled.log, _report(assembled, sources, labelled, drops=drops))


def _report(
    assembled: _Assembled, sources: Sources, tasks: Mapping[str, TaskConfig], *, drops: Drops
) -> CleaningReport:
    log = assembled.log
    file_drops = {"events": drops}
    file_drops |= {"users": sources.users.drops} if sources.users else {}
    file_drops |= {"items": sources.items.drops} if sources.items else {}
    return CleaningReport(
        read=sources.events.num_rows,
        kept=int(drops.keep.sum()),
        rows=len(log),
        users=len(log.user_ids),
        items=len(log.item_ids),
        dropped={
            f"{file}: {why}": n for file, d in file_drops.items() for why, n in d.counts.items()
        },
        examples={
            f"{file}: {why}": example
            for file, d in file_drops.items()
            for why, example in d.examples.items()
        },
        time_unit=sources.times.unit,
        users_without_row=assembled.users.without_row,
        items_without_row=assembled.items.without_row,
        warnings=tuple(label_warnings(log.labels, tasks)),
    )


def _has_times(config: DataConfig) -> bool:
    return config.timestamp is not None and config.timestamp_unit != "order"


def _assemble(
    clean: _Clean,
    roles: _Roles,
    labels: Mapping[str, Labels],
    config: DataConfig,
    sources: Sources,
) -> _Assembled:
    # Rows that only carry labels have given them; they are no interactions of their own.
    rows = np.flatnonzero(roles.chosen | roles.exposure)
    table = clean.table.take(pa.array(rows))
    user, item = clean.user.at(rows), clean.item.at(rows)
    users = join_entities(user.values, sources.users)
    items = join_entities(item.values, sources.items)
    log = EventLog(
        user_ids=users.ids,
        item_ids=items.ids,
        user=user.codes.astype(np.int32),
        item=item.codes.astype(np.int32),
        time=clean.time[rows],
        chosen=roles.chosen[rows],
        exposure=roles.exposure[rows],
        labels={
            name: Labels(label.value[rows], label.known_at[rows], label.absent)
            for name, label in labels.items()
        },
        event_table=feature_table(table, config.event_features),
        user_table=users.features,
        item_table=items.features,
        has_times=_has_times(config),
        weight=_weights(table, config),
        propensity=_propensities(table, config, exposure=roles.exposure[rows]),
    )
    return _Assembled(log, users, items)


def _clean(
    sources: Sources, config: DataConfig, tasks: Mapping[str, TaskConfig], *, drops: Drops
) -> _Clean:
    table, times = sources.events, sources.times
    ids = _drop_unusable(table, config, times=times, drops=drops)
    carried = {}
    for name, task in tasks.items():
        if task.column is not None:
            values = read_labels(table, task, name=name)
            reason = f"label of task {name!r} outside {list(task.range or ('-inf', 'inf'))}"
            drops.drop(outside(values, task), reason, column=table[label_columns(task)[0]])
            carried[name] = values
    _refuse_nothing_left(drops)
    kept = np.flatnonzero(drops.keep)
    # lexsort is stable, so that equal times keep the order of the file.
    order = kept[np.lexsort((times.value[kept], ids.user.codes[kept]))]
    user, time = ids.user.at(order), times.value[order]
    if not _has_times(config):
        # Ties in a bare order mean nothing: the place in the user's sequence takes its stead.
        time = np.arange(len(order)) - np.searchsorted(user.codes, user.codes)
    return _Clean(
        table=table.take(pa.array(order)),
        user=user,
        item=ids.item.at(order),
        time=time.astype(np.int64),
        carried={name: values[order] for name, values in carried.items()},
    )


def _drop_unusable(table: pa.Table, config: DataConfig, *, times: Times, drops: Drops) -> _Pairs:
    drop_bad_ids(drops, table[config.user_id], name=config.user_id)
    drop_bad_ids(drops, table[config.item_id], name=config.item_id)
    drops.drop(~times.valid, f"no {config.timestamp}")
    if config.event is not None:
        kind = config.event.column
        drops.drop(pc.is_null(table[kind]).to_numpy(), f"no {kind}")
    user, item = encode(table[config.user_id]), encode(table[config.item_id])
    if config.timestamp is not None:  # without times, every row is an event of its own
        drop_repeated_rows(drops, table, user=user.codes, item=item.codes, time=times.value)
    return _Pairs(user, item)


def _refuse_nothing_left(drops: Drops) -> None:
    if not drops.keep.any():
        why = "; ".join(f"{reason}: {count:,}" for reason, count in drops.counts.items())
        raise UserError(
            f"events: none of the {len(drops.keep):,} rows is usable ({why}); "
            "check data.user_id, data.item_id, data.timestamp and the tasks' ranges"
        )


def _roles(table: pa.Table, config: DataConfig) -> _Roles:
    if config.event is not None:
        types = table[config.event.column]
        chosen = pc.is_in(types, value_set=pa.array(config.event.chosen)).to_numpy()
        shown = config.event.exposure or config.event.chosen
        exposure = pc.is_in(types, value_set=pa.array(shown)).to_numpy()
        if not chosen.any():
            there = sorted(types.unique().to_pylist())[:10]
            raise UserError(
                f"data.event.chosen: no row has a type of {list(config.event.chosen)}; "
                f"column {config.event.column!r} holds {', '.join(there)}"
            )
        return _Roles(chosen, exposure)
    everything = np.ones(table.num_rows, bool)
    if config.positive is None:
        return _Roles(everything, everything)
    chosen = Condition.parse(config.positive).holds(table).fill_null(False).to_numpy()
    if not chosen.any():
        raise UserError(
            f"data.positive: {config.positive!r} holds on none of the {table.num_rows:,} rows; "
            "loosen it or leave it out"
        )
    return _Roles(chosen, everything)


def _weights(table: pa.Table, config: DataConfig) -> np.ndarray | None:
    """Return how much each row of the log counts, [rows] float32."""
    if config.weight is None:
        return None
    remedy = "data.weight needs a number of at least 0 for each event"
    weights = as_numbers(table[config.weight], name=config.weight, remedy=remedy)
    refused = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(refused):
        held = "nothing" if np.isnan(refused[0]) else f"{refused[0]:g}"
        raise UserError(f"column {config.weight!r} holds {held} on {len(refused):,} rows; {remedy}")
    if not weights.any():
        raise UserError(f"column {config.weight!r} is 0 on every row; {remedy}, above 0 on some")
    return weights.astype(np.float32)


def _propensities(
    table: pa.Table, config: DataConfig, *, exposure: np.ndarray
) -> np.ndarray | None:
    """Return the probability with which each exposure was shown, [rows] float64."""
    if config.propensity is None:
        return None
    remedy = (
        f"data.propensity needs, for exposures, a probability from {_LEAST_PROPENSITY:g} to 1, or "
        "nothing"
    )
    chance = as_numbers(table[config.propensity], name=config.propensity, remedy=remedy)
    chance = np.where(exposure, chance, np.nan)
    refused = chance[~np.isnan(chance) & ~((chance >= _LEAST_PROPENSITY) & (chance <= 1))]
    if len(refused):
        raise UserError(
            f"column {config.propensity!r} holds {refused[0]:.9g} on {len(refused):,} exposures; "
            f"{remedy}"
        )
    if np.isnan(chance).all():
        raise UserError(f"column {config.propensity!r} is empty on every exposure; {remedy}")
    return chance


def _labels(
    clean: _Clean, roles: _Roles, config: DataConfig, tasks: Mapping[str, TaskConfig]
) -> dict[str, Labels]:
    rows = Rows(clean.user.codes, clean.item.codes, clean.time, roles.exposure)
    labels = {}
    for name, task in tasks.items():
        if config.event is None:
            labels[name] = own_labels(clean.carried[name], rows)
        elif task.event:
            happened = carries_event(clean.table, task, type_column=config.event.column)
            labels[name] = attribute_event(happened, rows)
        else:
            labels[name] = attribute_values(clean.carried[name], rows)
    return labels
