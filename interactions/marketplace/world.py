"""The truth behind the log: who likes what, what items are worth, and how appeal drifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.marketplace.config import MarketplaceConfig
from interactions.marketplace.words import TASTE_DIMENSIONS

START = 1_704_067_200_000
"""2024-01-01 00:00 UTC in milliseconds since 1970."""
DAY = 86_400_000
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
REGIONS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "centre")
DEVICES = ("phone", "tablet", "desktop")
SLOTS = np.array([6, 8, 10])
"""Positions on one page, by device."""
DEVICE_SHARES = (0.5, 0.15, 0.35)
DIMENSION_SCALE = 0.8 ** np.arange(TASTE_DIMENSIONS)
DIMENSION_SCALE *= np.sqrt(TASTE_DIMENSIONS / np.sum(DIMENSION_SCALE**2))
"""Some dimensions of taste divide people more than others; affinity keeps variance one."""
VISIBLE_TASTE = 0.3
"""Share of the variance of a user's taste that age band and region tell."""


@dataclass(frozen=True)
class World:
    """Every parameter of a marketplace, by row of its user and item tables."""

    user_taste: np.ndarray
    """[users, D] float64."""
    user_age: np.ndarray
    """[users] int64, row of AGE_BANDS."""
    user_region: np.ndarray
    """[users] int64, row of REGIONS."""
    user_device: np.ndarray
    """[users] int64, row of DEVICES: the one most used."""
    user_thrift: np.ndarray
    """[users] float64: how much a high price deters."""
    user_activity: np.ndarray
    """[users] float64: relative number of sessions, heavy-tailed."""
    user_joined: np.ndarray
    """[users] float64: days after START."""
    user_rates: np.ndarray
    """[users] float64: probability that a purchase is rated."""
    item_taste: np.ndarray
    """[items, D] float64, of length one."""
    item_category: np.ndarray
    """[items] int64."""
    item_brand: np.ndarray
    """[items] int64."""
    item_quality: np.ndarray
    """[items] float64, standardised; seen by nobody before buying, guessed at by a few."""
    item_hype: np.ndarray
    """[items] float64, standardised: what the title promises."""
    item_dearness: np.ndarray
    """[items] float64, standardised log price within the category."""
    item_price: np.ndarray
    """[items] float64, rounded to cents."""
    item_launched: np.ndarray
    """[items] int64: milliseconds since 1970."""
    item_appeal: np.ndarray
    """[items] float64: lasting appeal."""
    item_swing: np.ndarray
    """[items, 3] float64: amplitude, period in days and phase of the item's own drift."""
    trend: np.ndarray
    """[categories, 3] float64: the same of each category's trend."""

    def affinity(self, users: np.ndarray, items: np.ndarray | None) -> np.ndarray:
        """Return the agreement of tastes, about standard normal over random pairs.

        `users` [Q] int; `items` None for all, giving [Q, items], or int [Q] or [Q, k].
        """
        if items is None:
            return self.user_taste[users] @ self.item_taste.T
        wanted = self.user_taste[users] if items.ndim == 1 else self.user_taste[users][:, None]
        return np.sum(wanted * self.item_taste[items], axis=-1)

    def appeal(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return the appeal of `items` at `times` (ms since 1970), -inf before their launch."""
        days = (times - START) / DAY
        age = (times - self.item_launched[items]) / DAY
        novelty = 0.8 * np.exp(-np.maximum(age, 0.0) / 20.0)
        drift = swing(self.item_swing[items], days) + swing(
            self.trend[self.item_category[items]], days
        )
        return np.where(age < 0, -np.inf, self.item_appeal[items] + drift + novelty)


def swing(wave: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return the value at `days` of waves [..., (amplitude, period, phase)]."""
    return wave[..., 0] * np.sin(2 * np.pi * days / wave[..., 1] + wave[..., 2])


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-logit)), also of -inf."""
    return 1.0 / (1.0 + np.exp(-logit))


def examination(position: np.ndarray, device: np.ndarray) -> np.ndarray:
    """Return the probability that a `position` (int, from 0) is looked at on a `device` (int).

    The position-based model (Richardson et al. 2007): it depends on nothing else.
    """
    steepness = np.array([0.16, 0.12, 0.08])[device]
    return 1.0 / (1.0 + steepness * position)


def make_world(config: MarketplaceConfig, rng: np.random.Generator) -> World:
    """Draw the parameters of a marketplace."""
    return World(**_users(config, rng), **_items(config, rng))


def _users(config: MarketplaceConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    users, width = config.users, TASTE_DIMENSIONS
    age = rng.choice(len(AGE_BANDS), users, p=[0.16, 0.24, 0.21, 0.17, 0.13, 0.09])
    region = rng.integers(len(REGIONS), size=users)
    by_age = rng.normal(size=(len(AGE_BANDS), width))
    by_region = rng.normal(size=(len(REGIONS), width))
    visible = (by_age[age] + by_region[region]) / np.sqrt(2)
    hidden = rng.normal(size=(users, width))
    joined = rng.random(users) * 0.9 * config.days
    return {
        "user_taste": DIMENSION_SCALE
        * (np.sqrt(VISIBLE_TASTE) * visible + np.sqrt(1 - VISIBLE_TASTE) * hidden),
        "user_age": age,
        "user_region": region,
        "user_device": rng.choice(len(DEVICES), users, p=DEVICE_SHARES),
        # The young look at the price a little more.
        "user_thrift": 0.7 * np.exp(0.4 * rng.normal(size=users) + 0.1 * (2.5 - age)),
        "user_activity": np.exp(0.6 * rng.normal(size=users)),
        "user_joined": np.where(rng.random(users) < 0.7, 0.0, joined),
        "user_rates": rng.uniform(0.35, 0.85, size=users),
    }


def _items(config: MarketplaceConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    items, width = config.items, TASTE_DIMENSIONS
    categories = max(1, min(config.categories, items // 2))
    brands = max(3, items // 30)
    category, brand = rng.integers(categories, size=items), rng.integers(brands, size=items)
    taste = (
        0.65 * rng.normal(size=(categories, width))[category]
        + 0.3 * rng.normal(size=(brands, width))[brand]
        + 0.7 * rng.normal(size=(items, width))
    )
    quality = 0.5 * rng.normal(size=brands)[brand] + np.sqrt(0.75) * rng.normal(size=items)
    # What is good costs more, but only partly: bargains and rip-offs exist.
    dearness = 0.6 * quality + 0.8 * rng.normal(size=items)
    hype = rng.normal(size=items) - 0.2 * quality
    level = rng.normal(3.2, 0.8, size=categories)[category]
    before = -rng.random(items) * 900
    during = rng.random(items) * 0.95 * config.days
    launched = np.where(rng.random(items) < 0.7, before, during)
    # Two items at least from the first moment, or the first pages would be empty.
    launched[:2] = before[:2]
    return {
        "item_taste": taste / np.linalg.norm(taste, axis=1, keepdims=True),
        "item_category": category,
        "item_brand": brand,
        "item_quality": quality,
        "item_hype": hype,
        "item_dearness": dearness,
        "item_price": np.round(np.exp(level + 0.5 * dearness), 2),
        "item_launched": START + (launched * DAY).astype(np.int64),
        "item_appeal": 0.4 * rng.normal(size=items),
        "item_swing": _waves(rng, items, amplitude=0.75),
        "trend": _waves(rng, categories, amplitude=0.4),
    }


def _waves(rng: np.random.Generator, count: int, *, amplitude: float) -> np.ndarray:
    """Draw [count, 3] amplitudes, periods of four months to over two years, and phases."""
    return np.stack(
        [
            amplitude * np.abs(rng.normal(size=count)),
            rng.uniform(120, 900, size=count),
            rng.uniform(0, 2 * np.pi, size=count),
        ],
        axis=1,
    )
