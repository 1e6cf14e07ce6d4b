"""What a caller of the client asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interactions.errors import UserError
from serving.wishes import Wishes


@dataclass(frozen=True)
class ModelChoice:
    """A model on a server: its newest version, or the one with a number or a label.

    Raises UserError where both are given.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        """Refuse a choice of two versions."""
        if self.version is not None and self.label is not None:
            raise UserError(
                f"model {self.name!r} is asked for by version {self.version} and by label "
                f"{self.label!r}; give one of them"
            )


@dataclass(frozen=True)
class PredictRequest:
    """A signature to run, and on what."""

    model: str | ModelChoice
    """A name is its newest version."""
    inputs: Mapping[str, Any]
    """By input name: arrays, or lists of str, bytes or numbers, of any shape."""
    signature: str = "serving_default"
    outputs: tuple[str, ...] = ()
    """The outputs that are wanted; empty for all."""


@dataclass(frozen=True)
class RecommendRequest:
    """Up to `k` items for each user; raises UserError where `k` is below 1."""

    user_ids: Sequence[str]
    k: int
    wishes: Wishes | None = None
    """None where the users want nothing but the best."""

    def __post_init__(self) -> None:
        """Refuse what is no list of users, and a list of nothing."""
        if isinstance(self.user_ids, str):
            raise UserError(f"user_ids is the string {self.user_ids!r}; give a list of user ids")
        if self.k < 1:
            raise UserError(f"k is {self.k}; ask for at least 1 item")
