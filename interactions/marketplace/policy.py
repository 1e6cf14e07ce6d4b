"""The logging policy: which items a page shows, and with what probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.marketplace.config import MarketplaceConfig
from interactions.marketplace.world import DAY, START, World

EXPLORE = 0.1
"""Share of the slots that go to any launched item alike: every propensity stays above 0."""
PERSONAL, POPULAR = 1.8, 0.5
MOST_CELLS = 4_000_000
"""Segments times items: large catalogues get coarser segments, to bound time and memory."""
REFRESH_DAYS = 7
"""The policy learns of drift and of new items once a week."""


@dataclass(frozen=True)
class Pages:
    """What a batch of sessions was shown; slots beyond a page's end hold item -1."""

    item: np.ndarray
    """[sessions, slots] int64."""
    propensity: np.ndarray
    """[sessions, slots] float64: the probability that this slot shows this item, given the slots
    above it and the items that the policy may not show."""


@dataclass(frozen=True)
class Policy:
    """What the shop knows: each user's segment, and roughly what each segment likes."""

    segment: np.ndarray
    """[users] int64."""
    taste: np.ndarray
    """[segments, D] float64."""

    @classmethod
    def guess(cls, world: World, config: MarketplaceConfig, rng: np.random.Generator) -> Policy:
        """Draw segments around random users and put each user into the one that seems nearest."""
        users = len(world.user_taste)
        segments = max(1, min(config.segments, users, MOST_CELLS // config.items))
        centres = rng.choice(users, segments, replace=False)
        seen = world.user_taste + 0.5 * rng.normal(size=world.user_taste.shape)
        taste = seen[centres]
        nearness = seen @ taste.T - 0.5 * np.sum(taste**2, axis=1)
        # A guess is only as certain as it is good: shrink it towards the mean.
        return cls(segment=np.argmax(nearness, axis=1), taste=taste / 1.25)

    def week(self, world: World, week: int, rng: np.random.Generator) -> Shelf:
        """Return the slot probabilities of one week: a softmax of popularity and segment taste,
        both guessed, mixed with a uniform choice among the launched items."""
        now = START + week * REFRESH_DAYS * DAY
        appeal = world.appeal(np.arange(len(world.item_price)), np.asarray(now))
        appeal = appeal + 0.4 * rng.normal(size=len(appeal))
        score = PERSONAL * (self.taste @ world.item_taste.T) + POPULAR * appeal
        weight = np.exp(score - score.max(axis=1, keepdims=True))  # 0 before the launch
        launched = np.isfinite(appeal)
        weight = (1 - EXPLORE) * weight / weight.sum(axis=1, keepdims=True)
        weight += EXPLORE * launched / launched.sum()
        reach = np.cumsum(weight, axis=1)
        # Each segment's reach gets its own unit interval, so one search serves all of them.
        reach = reach / reach[:, -1:] + np.arange(len(weight))[:, None]
        return Shelf(weight=weight, reach=reach.ravel(), launched=int(launched.sum()))


@dataclass(frozen=True)
class Shelf:
    """One week's slot probabilities."""

    weight: np.ndarray
    """[segments, items] float64, rows sum to 1; 0 for items not launched."""
    reach: np.ndarray
    """[segments * items] float64: running sums, plus the segment's number."""
    launched: int

    def draw(self, segment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return [n] int64 items, drawn independently for `segment` [n] int."""
        items = self.weight.shape[1]
        found = np.searchsorted(self.reach, segment + rng.random(len(segment)), side="right")
        return np.clip(found - segment * items, 0, items - 1)


@dataclass(frozen=True)
class Bought:
    """Who has decided to buy what, and when it is bought: sorted by user and item."""

    key: np.ndarray
    """[purchases] int64: user * items + item."""
    time: np.ndarray
    """[purchases] int64, milliseconds since 1970."""
    items: int

    def has(self, user: np.ndarray, item: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return [...] bool: bought at or before the time; all arguments int, broadcast."""
        if not len(self.key):
            return np.zeros(np.broadcast_shapes(user.shape, item.shape), bool)
        key = user * self.items + item
        row = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return (self.key[row] == key) & (self.time[row] <= before)

    def add(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> Bought:
        """Return these purchases and the given ones, [n] int each."""
        key = user * self.items + item
        order = np.argsort(key, kind="stable")
        place = np.searchsorted(self.key, key[order])
        return Bought(
            key=np.insert(self.key, place, key[order]),
            time=np.insert(self.time, place, time[order]),
            items=self.items,
        )

    def of(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every purchase of each of `user` [n]: rows of `user`, and rows of `key`."""
        first = np.searchsorted(self.key, user * self.items)
        count = np.searchsorted(self.key, (user + 1) * self.items) - first
        owner = np.repeat(np.arange(len(user)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return owner, first[owner] + within


def fill_pages(
    shelf: Shelf,
    *,
    segment: np.ndarray,
    user: np.ndarray,
    time: np.ndarray,
    slots: np.ndarray,
    bought: Bought,
    rng: np.random.Generator,
) -> Pages:
    """Fill pages slot by slot, without repeats and without what the user has bought.

    All arrays are [sessions] int. Drawing again after a refused item makes the slot's probability
    the item's weight over the weight of all that may still be shown, which is what is logged.
    """
    owner, purchase = bought.of(user)
    past = bought.time[purchase] <= time[owner]
    owner, gone = owner[past], bought.key[purchase[past]] % bought.items
    # A page takes at most half of a tiny shop, and nothing already bought.
    left = shelf.launched - np.bincount(owner, minlength=len(user))
    slots = np.minimum(slots, np.minimum((shelf.launched + 1) // 2, left))
    mass = 1.0 - np.bincount(owner, shelf.weight[segment[owner], gone], minlength=len(user))
    item = np.full((len(user), max(slots.max(initial=0), 1)), -1)
    propensity = np.full(item.shape, np.nan)
    for slot in range(item.shape[1]):
        open_ = np.flatnonzero(slots > slot)
        page = open_
        while len(open_):
            drawn = shelf.draw(segment[open_], rng)
            refused = (item[open_] == drawn[:, None]).any(axis=1)
            refused |= shelf.weight[segment[open_], drawn] == 0
            refused |= bought.has(user[open_], drawn, time[open_])
            item[open_[~refused], slot] = drawn[~refused]
            open_ = open_[refused]
        weight = shelf.weight[segment[page], item[page, slot]]
        propensity[page, slot] = np.minimum(weight / mass[page], 1.0)
        mass[page] -= weight
    return Pages(item=item, propensity=propensity)
