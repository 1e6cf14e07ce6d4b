"""How large a generated marketplace is, and from which seed it grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from interactions.errors import UserError

LEAST = {"users": 1, "items": 2, "events": 1, "days": 7, "categories": 1, "segments": 1, "seed": 0}


@dataclass(frozen=True)
class MarketplaceConfig:
    """Sizes and seed of a generated marketplace; raises UserError on an impossible size."""

    users: int = 5_000
    items: int = 2_000
    events: int = 300_000
    """About how many rows the log gets; the exact number is left to chance."""
    days: int = 365
    """Length of the log, from 2024-01-01 on."""
    seed: int = 1
    categories: int = 20
    """At most; small catalogues get one category per two items."""
    segments: int = 256
    """How finely the logging policy tells its users apart."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no marketplace."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(
                    f"marketplace {name} = {value!r}: give a whole number of at least {least}"
                )


PRESETS: Mapping[str, MarketplaceConfig] = MappingProxyType(
    {
        "seed": MarketplaceConfig(users=1_000, items=10, events=40_000),
        "demo": MarketplaceConfig(),
    }
)
"""`seed` for tests and notebooks, `demo` for `tandem demo`; both frozen by a golden hash."""
