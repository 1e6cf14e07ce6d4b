"""The marketplace as tables: made, written, read back, and ready for a config file."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interactions.errors import UserError
from interactions.marketplace.config import MarketplaceConfig
from interactions.marketplace.oracle import Oracle
from interactions.marketplace.sessions import (
    IMPRESSION,
    RATING,
    TYPES,
    VIEW,
    Log,
    simulate,
)
from interactions.marketplace.words import category_name, titles
from interactions.marketplace.world import AGE_BANDS, DEVICES, REGIONS, World, make_world

WORLD_FILE = "world.npz"
TABLES = ("events", "items", "users")


@dataclass(frozen=True)
class Marketplace:
    """A generated log with its users, its items and the truth behind them."""

    config: MarketplaceConfig
    events: pa.Table
    """One row per event in time order: user_id, item_id, timestamp (ms since 1970), type
    (impression, view, purchase or rating), session_id, position from 0 and propensity
    (impressions), device (impressions and views) and rating (ratings), null elsewhere. A propensity
    is the probability that the policy showed this item at this position, given those above."""
    items: pa.Table
    """item_id, title, category, brand, price, launched (ms since 1970)."""
    users: pa.Table
    """user_id, age_band, region, main_device."""
    world: World

    @property
    def oracle(self) -> Oracle:
        """The true probabilities; its rows of users and items are those of the tables."""
        return Oracle(
            world=self.world,
            user_ids=_ids("u", self.users.num_rows),
            item_ids=_ids("i", self.items.num_rows),
        )

    def write(self, folder: str | Path) -> None:
        """Write events.parquet, items.parquet, users.parquet and world.npz into `folder`.

        Raises UserError where the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in TABLES:
                pq.write_table(getattr(self, name), folder / f"{name}.parquet")
            config = np.array(json.dumps(asdict(self.config)))
            np.savez(folder / WORLD_FILE, config=config, **asdict(self.world))
        except OSError as error:
            raise UserError(
                f"cannot write the marketplace into {folder}: {error.strerror or error}; "
                "choose a folder that can be written"
            ) from error

    @classmethod
    def read(cls, folder: str | Path) -> Marketplace:
        """Read what `write` wrote; raises UserError where a file is missing or damaged."""
        folder = Path(folder)
        try:
            with np.load(folder / WORLD_FILE, allow_pickle=False) as stored:
                config = MarketplaceConfig(**json.loads(str(stored["config"])))
                world = World(**{field.name: stored[field.name] for field in fields(World)})
            tables = {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES}
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"cannot read a marketplace from {folder}: {reason}; generate it again"
            ) from error
        return cls(config=config, world=world, **tables)

    def data_config(self, folder: str | Path = ".") -> dict:
        """Return the `data:` section for the files that `write` puts into `folder`."""
        folder = Path(folder)
        return {
            **{name: str(folder / f"{name}.parquet") for name in TABLES},
            "user_id": "user_id",
            "item_id": "item_id",
            "timestamp": "timestamp",
            "timestamp_unit": "milliseconds",
            "propensity": "propensity",
            "event": {"column": "type", "exposure": [TYPES[IMPRESSION]], "chosen": [TYPES[VIEW]]},
            "item_features": [
                {"name": "title", "kind": "text"},
                {"name": "category", "kind": "categorical", "filterable": True},
                {"name": "brand", "kind": "categorical", "filterable": True},
                {"name": "price", "kind": "numeric", "filterable": True},
            ],
            "user_features": [
                {"name": name, "kind": "categorical"}
                for name in ("age_band", "region", "main_device")
            ],
            "event_features": [{"name": "device", "kind": "categorical"}],
        }

    def tasks_config(self) -> dict:
        """Return the `tasks:` section: retrieval, rating and purchase, and views of what was shown.

        The last learns from what was shown and passed over, which the retrieval task cannot.
        """
        return {
            "retrieval": {"weight": 1.0},
            "rating": {"weight": 0.5, "kind": "regression", "column": "rating", "range": [1, 5]},
            "purchase": {
                "weight": 1.0,
                "kind": "binary",
                "event": ["purchase"],
                "given": "view",
            },
            "view": {"weight": 1.0, "kind": "binary", "event": ["view"]},
        }

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of every value of the three tables."""
        digest = hashlib.sha256()
        for name in TABLES:
            for column, values in _columns(getattr(self, name)):
                digest.update(f"{name}.{column}\n".encode())
                digest.update(values)
        return digest.hexdigest()


def generate(config: MarketplaceConfig) -> Marketplace:
    """Make the marketplace of `config`: the same tables from the same config, always."""
    seeds = np.random.SeedSequence(config.seed).spawn(3)
    of_world, of_words, of_log = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
    world = make_world(config, of_world)
    user_ids, item_ids = _ids("u", config.users), _ids("i", config.items)
    oracle = Oracle(world=world, user_ids=user_ids, item_ids=item_ids)
    users = pa.table(
        {
            "user_id": pa.array(user_ids),
            "age_band": _named(AGE_BANDS, world.user_age),
            "region": _named(REGIONS, world.user_region),
            "main_device": _named(DEVICES, world.user_device),
        }
    )
    names = titles(
        of_words, category=world.item_category, taste=world.item_taste, hype=world.item_hype
    )
    items = pa.table(
        {
            "item_id": pa.array(item_ids),
            "title": pa.array(names, pa.string()),
            "category": _named(
                [category_name(c) for c in range(len(world.trend))], world.item_category
            ),
            "brand": _named(_ids("brand-", int(world.item_brand.max()) + 1, 2), world.item_brand),
            "price": world.item_price,
            "launched": world.item_launched,
        }
    )
    events = _event_table(simulate(oracle, config, of_log), user_ids, item_ids)
    return Marketplace(config=config, events=events, items=items, users=users, world=world)


def _event_table(log: Log, user_ids: np.ndarray, item_ids: np.ndarray) -> pa.Table:
    rows = log.rows
    shown, on_page = rows.type == IMPRESSION, rows.type <= VIEW
    return pa.table(
        {
            "user_id": _named(user_ids, rows.user),
            "item_id": _named(item_ids, rows.item),
            "timestamp": rows.time,
            "type": _named(TYPES, rows.type),
            "session_id": rows.session,
            "position": pa.array(rows.position.astype(np.int32), mask=~shown),
            # float32, so that the last bits of exp on another machine change nothing.
            "propensity": pa.array(rows.propensity.astype(np.float32), mask=~shown),
            "device": _named(DEVICES, log.device, mask=~on_page),
            "rating": pa.array(rows.value, mask=rows.type != RATING),
        }
    )


def _named(names: Iterable[str], rows: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    return pa.array(list(names), pa.string()).take(pa.array(rows, mask=mask))


def _ids(prefix: str, count: int, least: int = 5) -> np.ndarray:
    """Return [count] str, numbered with leading zeros so that they sort as they are numbered."""
    width = max(least, len(str(count - 1)))
    return np.array([f"{prefix}{n:0{width}d}" for n in range(count)])


def _columns(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yield each column's name and its values as bytes, nulls told apart from every value."""
    for name in table.column_names:
        column = table[name].combine_chunks()
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_string(column.type):
            values = "\n".join(column.fill_null("").to_pylist()).encode()
        else:
            values = column.fill_null(0).to_numpy(zero_copy_only=False).astype("<f8").tobytes()
        yield name, np.packbits(nulls).tobytes() + values
