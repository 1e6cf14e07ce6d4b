"""How raw columns become numbers."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config


class FeaturesConfig(Config):
    """Sizes and thresholds of the encoders; the defaults suit most data."""

    min_count: int = Field(default=2, ge=1)
    """Values seen less often in training share the out-of-vocabulary buckets."""
    oov_buckets: int = Field(default=1, ge=1)
    """Out-of-vocabulary ids; more of them tell rare values apart, by hash."""
    text_buckets: int = Field(default=8192, ge=16)
    """Hash buckets shared by a text feature's words and character trigrams."""
    text_words: int = Field(default=16, ge=1)
    """Most words kept of a text, from its beginning."""
    text_trigrams: int = Field(default=32, ge=0)
    """Most character trigrams kept of a text; 0 leaves them out."""
    most_categories: int = Field(default=16, ge=1)
    """Most values kept of a several-valued category."""
    quantiles: int = Field(default=32, ge=2)
    """Knots of the empirical distribution that a number is mapped through."""
