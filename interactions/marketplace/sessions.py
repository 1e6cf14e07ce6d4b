"""What happens: who comes when, what is shown, viewed, bought and rated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.marketplace.config import MarketplaceConfig
from interactions.marketplace.oracle import Oracle
from interactions.marketplace.policy import REFRESH_DAYS, Bought, Pages, Policy, fill_pages
from interactions.marketplace.world import (
    DAY,
    DEVICE_SHARES,
    DEVICES,
    SLOTS,
    START,
    World,
    examination,
)

SECOND, HOUR = 1_000, 3_600_000
EVENTS_PER_SLOT = 1.42
"""Rows that one slot of a page leaves behind on average: measured, for sizing only."""
BUY_AT_ONCE = 0.7
HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 5, 5, 4, 4, 5, 6, 8, 9, 10, 9, 6, 4])
"""Relative traffic by hour of the day."""
IMPRESSION, VIEW, PURCHASE, RATING = range(4)
TYPES = ("impression", "view", "purchase", "rating")


@dataclass(frozen=True)
class Schedule:
    """Sessions in time order."""

    user: np.ndarray
    """[sessions] int64."""
    time: np.ndarray
    """[sessions] int64, milliseconds since 1970."""
    device: np.ndarray
    """[sessions] int64, row of DEVICES."""


@dataclass(frozen=True)
class Rows:
    """Events, one per row, by column: `value` is the rating, or NaN."""

    type: np.ndarray
    session: np.ndarray
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    position: np.ndarray
    """int64, -1 but on impressions."""
    propensity: np.ndarray
    """float64, NaN but on impressions."""
    value: np.ndarray


@dataclass(frozen=True)
class Log:
    """All events in time order."""

    rows: Rows
    device: np.ndarray
    """[rows] int64: the device of the row's session."""


def schedule(world: World, config: MarketplaceConfig, rng: np.random.Generator) -> Schedule:
    """Draw who comes when: heavy-tailed activity, each user once at least where there is room."""
    users, mean_slots = config.users, float(SLOTS @ np.array(DEVICE_SHARES))
    slots = min(mean_slots, (config.items + 1) // 2)
    sessions = max(1, round(config.events / (slots * EVENTS_PER_SLOT)))
    rate = world.user_activity * (config.days - world.user_joined)
    sure = 1 if sessions >= users else 0
    count = sure + rng.multinomial(sessions - sure * users, rate / rate.sum())
    user = np.repeat(np.arange(users), count)
    day = np.floor(
        world.user_joined[user] + rng.random(sessions) * (config.days - world.user_joined[user])
    )
    hour = rng.choice(24, sessions, p=HOURS / HOURS.sum())
    time = START + day.astype(np.int64) * DAY + hour * HOUR + rng.integers(HOUR, size=sessions)
    other = rng.choice(len(DEVICES), sessions, p=DEVICE_SHARES)
    device = np.where(rng.random(sessions) < 0.75, world.user_device[user], other)
    order = np.lexsort((user, time))
    return Schedule(user=user[order], time=time[order], device=device[order])


def simulate(oracle: Oracle, config: MarketplaceConfig, rng: np.random.Generator) -> Log:
    """Play all sessions and return their events in time order."""
    world = oracle.world
    policy = Policy.guess(world, config, rng)
    plan = schedule(world, config, rng)
    week = (plan.time - START) // (REFRESH_DAYS * DAY)
    turn = _turn_in_week(plan.user, week)
    bought = Bought(key=np.empty(0, np.int64), time=np.empty(0, np.int64), items=config.items)
    made: list[Rows] = []
    for now in range(int(week.max()) + 1):
        shelf = policy.week(world, now, rng)
        of_week = np.flatnonzero(week == now)
        # One session per user at a time, so that each sees what the one before has bought.
        for n in range(int(turn[of_week].max(initial=-1)) + 1):
            session = of_week[turn[of_week] == n]
            user, time, device = plan.user[session], plan.time[session], plan.device[session]
            pages = fill_pages(
                shelf,
                segment=policy.segment[user],
                user=user,
                time=time,
                slots=SLOTS[device],
                bought=bought,
                rng=rng,
            )
            shown = _impressions(pages, session, plan)
            viewed = _views(oracle, shown, plan.device[shown.session], rng)
            sold = _purchases(oracle, viewed, bought, rng)
            bought = bought.add(sold.user, sold.item, sold.time)
            made += [shown, viewed, sold, _ratings(oracle, sold, rng)]
    rows = _in_time_order(made, end=START + config.days * DAY)
    return Log(rows=rows, device=plan.device[rows.session])


def _turn_in_week(user: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Return [sessions] int64: 0 for a user's first session of a week, 1 for the second, ..."""
    order = np.lexsort((np.arange(len(user)), week, user))
    starts = np.r_[True, (np.diff(user[order]) != 0) | (np.diff(week[order]) != 0)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(user)), 0))
    turn = np.empty(len(user), np.int64)
    turn[order] = np.arange(len(user)) - first
    return turn


def _impressions(pages: Pages, session: np.ndarray, plan: Schedule) -> Rows:
    page, position = np.nonzero(pages.item >= 0)
    chosen = session[page]
    return Rows(
        type=np.full(len(page), IMPRESSION),
        session=chosen,
        user=plan.user[chosen],
        item=pages.item[page, position],
        time=plan.time[chosen],
        position=position,
        propensity=pages.propensity[page, position],
        value=np.full(len(page), np.nan),
    )


def _views(oracle: Oracle, shown: Rows, device: np.ndarray, rng: np.random.Generator) -> Rows:
    looks = examination(shown.position, device)
    likes = oracle.view_probability(shown.user, shown.item, shown.time)
    row = np.flatnonzero(rng.random(len(looks)) < looks * likes)
    pause = SECOND * (8 * (shown.position[row] + 1) + rng.integers(8, size=len(row)))
    return _follow(shown, row, type_=VIEW, time=shown.time[row] + pause)


def _purchases(oracle: Oracle, viewed: Rows, bought: Bought, rng: np.random.Generator) -> Rows:
    """Buy some of what was viewed, but nothing twice, nor what is already decided on."""
    wants = rng.random(len(viewed.user)) < oracle.purchase_given_view(viewed.user, viewed.item)
    decided = bought.has(viewed.user, viewed.item, np.asarray(np.iinfo(np.int64).max))
    row = np.flatnonzero(wants & ~decided)
    soon = SECOND * rng.integers(60, 600, size=len(row))
    later = (HOUR + rng.exponential(4 * DAY, size=len(row))).astype(np.int64)
    wait = np.where(rng.random(len(row)) < BUY_AT_ONCE, soon, later)
    return _follow(viewed, row, type_=PURCHASE, time=viewed.time[row] + wait)


def _ratings(oracle: Oracle, sold: Rows, rng: np.random.Generator) -> Rows:
    rates = rng.random(len(sold.user)) < oracle.world.user_rates[sold.user]
    row = np.flatnonzero(rates)
    exceeds = oracle.rating_exceeds(sold.user[row], sold.item[row])  # [n, 4]
    value = 1.0 + (rng.random((len(row), 1)) < exceeds).sum(axis=1)
    wait = (6 * HOUR + rng.exponential(6 * DAY, size=len(row))).astype(np.int64)
    return _follow(sold, row, type_=RATING, time=sold.time[row] + wait, value=value)


def _follow(
    cause: Rows, row: np.ndarray, *, type_: int, time: np.ndarray, value: np.ndarray | None = None
) -> Rows:
    """Return events of `type_` that the rows `row` of `cause` led to."""
    nothing = np.full(len(row), np.nan)
    return Rows(
        type=np.full(len(row), type_),
        session=cause.session[row],
        user=cause.user[row],
        item=cause.item[row],
        time=time,
        position=np.full(len(row), -1),
        propensity=nothing,
        value=nothing if value is None else value,
    )


def _in_time_order(parts: list[Rows], *, end: int) -> Rows:
    """Join the parts in time order and drop what comes after the end of the log."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Rows.__dataclass_fields__
    }
    order = np.lexsort((columns["position"], columns["type"], columns["session"], columns["time"]))
    order = order[columns["time"][order] < end]
    return Rows(**{name: column[order] for name, column in columns.items()})
