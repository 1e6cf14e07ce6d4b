"""Cutting the log into the windows retrieval | ranking | validation | test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from interactions.blocks import Spill, spans
from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.log import NEVER, EventLog

RETRIEVAL, RANKING, VALIDATION, TEST = range(4)
WINDOW_NAMES = ("retrieval", "ranking", "validation", "test")


@dataclass(frozen=True)
class Windows:
    """The window of every row of a log, and when each window is over."""

    log: EventLog
    kind: Literal["time", "leave_last_out", "random"]
    window: np.ndarray
    """[rows] int8: RETRIEVAL, RANKING, VALIDATION or TEST."""
    ends: np.ndarray
    """[4] int64 under `time`, [4, users] int64 under `leave_last_out`: the time of the first event
    of a later window, NEVER where there is none. Under `random` windows have no time: [4] NEVER."""

    def rows(self, *codes: int) -> np.ndarray:
        """Return the rows of these windows, int64, in the log's order."""
        with Spill(np.int64) as spill:
            for part in spans(len(self.window)):
                spill.append(part.start + np.flatnonzero(np.isin(self.window[part], codes)))
            return spill.array()

    def end(self, code: int) -> np.ndarray:
        """Return before when all that is known must have happened, training up to window `code`.

        One int64 for all rows; [rows] int64, each its user's, under `leave_last_out`.
        """
        ends = self.ends[code]
        return ends if ends.ndim == 0 else ends[self.log.user]

    def describe(self) -> list[str]:
        """Return one line per window: its rows, users, and dates where the log has times."""
        lines = []
        for code, name in enumerate(WINDOW_NAMES):
            rows = self.rows(code)
            users = len(np.unique(self.log.user[rows]))
            line = f"{name}: {len(rows):,} rows of {users:,} users"
            if self.log.has_times and len(rows):
                times = self.log.time[rows]
                first, last = (
                    str(np.datetime64(int(t), "us"))[:10] for t in (times.min(), times.max())
                )
                line += f", {first} to {last}"
            lines.append(line)
        return lines


def split(log: EventLog, config: SplitConfig) -> Windows:
    """Return the windows of the log's rows.

    `time` cuts at quantiles of the chosen events' times, never between equal times.
    `leave_last_out` gives, of each user's chosen events, the last `test_events` (at most half) to
    test, the one before to validation, up to `ranking_events` (at most half of the rest) to ranking
    and the rest to retrieval; users with fewer than three stay in retrieval, and a row that is not
    chosen goes with the last chosen one before it. `random` gives each row to a window by lot.
    Raises `UserError` where a window would be empty.
    """
    _refuse_unsplittable(log)
    windows = _SPLITS[config.kind](log, config)
    _refuse_empty(windows)
    return windows


def known_labels(log: EventLog, windows: Windows, *, task: str, code: int) -> np.ndarray:
    """Return the task's labels, float32 [rows], as they stood when window `code` was over."""
    return log.labels[task].at(windows.end(code))


def _by_time(log: EventLog, config: SplitConfig) -> Windows:
    if not log.has_times:
        raise UserError(
            "split.kind is time, but the data has only an order of rows; "
            "use split: {kind: leave_last_out}, or give data.timestamp"
        )
    times = np.sort(log.time[log.chosen])
    cuts = times[np.floor((1 - _held_out(config)) * len(times)).astype(np.int64)]
    # A row at the cut belongs after it, so equal times stay together.
    window = np.searchsorted(cuts, log.time, side="right").astype(np.int8)
    return Windows(log, "time", window, np.append(cuts, NEVER))


def _leave_last_out(log: EventLog, config: SplitConfig) -> Windows:
    users = len(log.user_ids)
    chosen = np.flatnonzero(log.chosen)
    user = log.user[chosen]
    count = np.bincount(user, minlength=users)
    starts = np.concatenate([[0], np.cumsum(count)[:-1]])
    from_end = count[user] - 1 - (np.arange(len(chosen)) - starts[user])
    test = np.minimum(config.test_events, np.maximum((count - 1) // 2, 1))
    ranking = np.minimum(config.ranking_events, np.maximum(count - 1 - test, 0) // 2)
    from_test = from_end - test[user]
    code = np.where(from_test < 0, TEST, np.where(from_test == 0, VALIDATION, RETRIEVAL))
    code[(from_test > 0) & (from_test <= ranking[user])] = RANKING
    code[count[user] < 3] = RETRIEVAL
    # The place among the chosen rows of the last one at or before each row, of the same user.
    last = np.cumsum(log.chosen) - 1
    own = last >= starts[log.user]
    window = np.where(own, code[np.maximum(last, 0)], RETRIEVAL).astype(np.int8)
    ends = np.full((4, users), NEVER)
    for earlier in (RETRIEVAL, RANKING, VALIDATION):
        later = window > earlier
        np.minimum.at(ends[earlier], log.user[later], log.time[later])
    return Windows(log, "leave_last_out", window, ends)


def _by_lot(log: EventLog, config: SplitConfig) -> Windows:
    ends = np.floor((1 - _held_out(config)) * len(log)).astype(np.int64)
    place = np.random.default_rng(config.seed).permutation(len(log))
    window = np.searchsorted(ends, place, side="right").astype(np.int8)
    return Windows(log, "random", window, np.full(4, NEVER))


def _held_out(config: SplitConfig) -> np.ndarray:
    """Shares behind the end of the retrieval, the ranking and the validation window, [3]."""
    return np.cumsum([config.test, config.validation, config.ranking])[::-1]


_SPLITS = {"time": _by_time, "leave_last_out": _leave_last_out, "random": _by_lot}


def _refuse_unsplittable(log: EventLog) -> None:
    if len(log) and log.has_times and log.time.min() == log.time.max():
        raise UserError(
            f"all {len(log):,} timestamps are equal, so the log cannot be split; use "
            "split: {kind: leave_last_out} with data.timestamp_unit: order"
        )
    for what, codes, names in (
        ("user", log.user, log.user_ids),
        ("item", log.item, log.item_ids),
    ):
        there = np.unique(codes[log.chosen])
        if len(there) < 2:
            example = f" ({names[there[0]]!r})" if len(there) else ""
            raise UserError(
                f"the chosen events have {len(there)} {what}{example}, and there is nothing to "
                f"learn from fewer than two; check data.{what}_id and data.positive"
            )


def _refuse_empty(windows: Windows) -> None:
    chosen = np.bincount(windows.window[windows.log.chosen], minlength=4)
    for name, count in zip(WINDOW_NAMES, chosen, strict=True):
        if not count:
            remedy = (
                f"widen split.{name if name != 'retrieval' else 'ranking'}, use split: "
                "{kind: leave_last_out}, or give more data (many equal times fall on one side)"
                if windows.kind != "leave_last_out"
                else "users need at least four chosen events; use split: {kind: time}, or more data"
            )
            raise UserError(
                f"the {name} window is empty: {int(chosen.sum()):,} chosen events are too few "
                f"to split by {windows.kind}; {remedy}"
            )
