"""Accept the generated marketplace only if it is no easy world.

Each recommender fills a top 10 for sessions of the last tenth of the year, knowing only what was
logged before; its expected purchases are set against the oracle's. Popularity may reach at most
60 % of them and gradient-boosted trees on plain features at most 90 %. It judges the preset `demo`:
in `seed`, a top 10 is the whole catalogue.

    python -m benchmarks.marketplace.accept
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from sklearn.ensemble import HistGradientBoostingClassifier

from interactions.marketplace import PRESETS, Marketplace, MarketplaceConfig, generate

K = 10
TRAINING_SHARE = 0.9
LIMITS = {"popularity": 0.6, "trees": 0.9}


@dataclass(frozen=True)
class Log:
    """The log as arrays [rows]: users and items as rows of their tables."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    session: np.ndarray
    type: np.ndarray

    @classmethod
    def of(cls, market: Marketplace) -> Log:
        """Read the events of a marketplace."""
        column = {name: market.events[name].to_numpy() for name in market.events.column_names}
        return cls(
            user=market.oracle.user_rows(column["user_id"]),
            item=market.oracle.item_rows(column["item_id"]),
            time=column["timestamp"],
            session=column["session_id"],
            type=column["type"].astype(str),
        )

    def where(self, rows: np.ndarray) -> Log:
        """Return the rows [rows] bool."""
        return Log(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Queries:
    """Sessions of the test window and what may be recommended in them."""

    user: np.ndarray
    time: np.ndarray
    allowed: np.ndarray
    """[queries, items] bool: launched and not bought before."""


def queries(market: Marketplace, log: Log, *, cut: int, most: int) -> Queries:
    """Draw at most `most` sessions after `cut`."""
    shown = log.where((log.type == "impression") & (log.time >= cut))
    _, first = np.unique(shown.session, return_index=True)
    rng = np.random.Generator(np.random.PCG64(0))
    first = np.sort(rng.permutation(first)[:most])
    user, time = shown.user[first], shown.time[first]
    allowed = market.world.item_launched[None] <= time[:, None]
    sold = log.where(log.type == "purchase")
    bought_at = np.full((market.users.num_rows, market.items.num_rows), np.iinfo(np.int64).max)
    np.minimum.at(bought_at, (sold.user, sold.item), sold.time)
    return Queries(user=user, time=time, allowed=allowed & (bought_at[user] > time[:, None]))


def top(score: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return [queries, K] the best allowed items, -1 where there are fewer."""
    score = np.where(allowed, score, -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")[:, :K]
    return np.where(np.take_along_axis(score, order, axis=1) > -np.inf, order, -1)


def popularity(market: Marketplace, past: Log) -> np.ndarray:
    """Return [items]: views and purchases so far."""
    liked = np.isin(past.type, ["view", "purchase"])
    return np.bincount(past.item[liked], minlength=market.items.num_rows).astype(float)


class PlainFeatures:
    """Columns of the tables and counts of the training log, side by side for trees."""

    def __init__(self, market: Marketplace, past: Log) -> None:
        users, items = market.users.num_rows, market.items.num_rows
        types = np.unique(past.type)
        self.user = np.stack(
            [codes(market.users[name]) for name in ("age_band", "region", "main_device")]
            + [np.bincount(past.user[past.type == t], minlength=users) for t in types],
            axis=1,
        )
        counts = {t: np.bincount(past.item[past.type == t], minlength=items) for t in types}
        shown = np.maximum(counts["impression"], 1)
        self.category = codes(market.items["category"])
        self.item = np.stack(
            [
                self.category,
                codes(market.items["brand"]),
                market.items["price"].to_numpy(),
                *counts.values(),
                counts["view"] / shown,
                counts["purchase"] / shown,
            ],
            axis=1,
        )
        self.launched = market.world.item_launched
        viewed = past.where(past.type == "view")
        self.favourite = np.zeros((users, self.category.max() + 1))
        np.add.at(self.favourite, (viewed.user, self.category[viewed.item]), 1)
        self.favourite /= np.maximum(self.favourite.sum(axis=1, keepdims=True), 1)

    def pairs(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return [pairs, columns] of users, items (rows) and times, each [pairs]."""
        age = (time - self.launched[item]) / 86_400_000
        favourite = self.favourite[user, self.category[item]]
        return np.column_stack([self.user[user], self.item[item], age, favourite])


def codes(column) -> np.ndarray:
    """Return [rows] the number of each value."""
    return pc.dictionary_encode(column).combine_chunks().indices.to_numpy()


def trees(market: Marketplace, past: Log, asked: Queries) -> np.ndarray:
    """Return [queries, items] scores of trees that learned which impressions sold."""
    plain = PlainFeatures(market, past)
    shown, sold = past.where(past.type == "impression"), past.where(past.type == "purchase")
    label = np.isin(key(shown), key(sold))
    model = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.08, random_state=0)
    model.fit(plain.pairs(shown.user, shown.item, shown.time), label)
    items = np.arange(market.items.num_rows)
    score = np.empty(asked.allowed.shape)
    for row, (user, time) in enumerate(zip(asked.user, asked.time, strict=True)):
        pairs = plain.pairs(np.full(len(items), user), items, np.full(len(items), time))
        score[row] = model.predict_proba(pairs)[:, 1]
    return score


def key(log: Log) -> np.ndarray:
    """Return [rows] one number for each session and item."""
    return (log.session << 32) + log.item


def accept(config: MarketplaceConfig, *, most_queries: int) -> dict[str, float]:
    """Return each recommender's share of the oracle's expected purchases in the top 10."""
    market = generate(config)
    log, oracle = Log.of(market), market.oracle
    start = int(log.time[0])
    cut = start + int(TRAINING_SHARE * config.days * 86_400_000)
    past = log.where(log.time < cut)
    asked = queries(market, log, cut=cut, most=most_queries)
    rng = np.random.Generator(np.random.PCG64(1))
    ranked = {
        "chance": top(rng.random(asked.allowed.shape), asked.allowed),
        "popularity": top(popularity(market, past)[None], asked.allowed),
        "trees": top(trees(market, past, asked), asked.allowed),
        "oracle": oracle.oracle_ranking(asked.user, asked.time, k=K, allowed=asked.allowed),
    }
    value = {
        name: float(oracle.expected_purchases(items, asked.user, asked.time).mean())
        for name, items in ranked.items()
    }
    print(f"{len(asked.user):,} sessions after the cut, {market.events.num_rows:,} events")
    print(f"{'recommender':<14}{'expected purchases':>20}{'of the oracle':>16}{'limit':>8}")
    for name, mean in value.items():
        limit = f"{LIMITS[name]:.0%}" if name in LIMITS else ""
        print(f"{name:<14}{mean:>20.3f}{mean / value['oracle']:>16.1%}{limit:>8}")
    return {name: mean / value["oracle"] for name, mean in value.items()}


def main() -> int:
    """Return 0 where the marketplace is accepted, 1 where it is too easy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=400)
    arguments = parser.parse_args()
    share = accept(PRESETS["demo"], most_queries=arguments.queries)
    easy = [name for name, limit in LIMITS.items() if share[name] > limit]
    print(f"refused: too easy for {', '.join(easy)}" if easy else "accepted")
    return 1 if easy else 0


if __name__ == "__main__":
    sys.exit(main())
