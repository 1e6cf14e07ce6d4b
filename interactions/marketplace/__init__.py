"""A generated marketplace whose true probabilities can be asked for."""

from interactions.marketplace.config import PRESETS, MarketplaceConfig
from interactions.marketplace.market import Marketplace, generate
from interactions.marketplace.oracle import Oracle

__all__ = ["PRESETS", "Marketplace", "MarketplaceConfig", "Oracle", "generate"]
