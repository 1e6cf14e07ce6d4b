"""All contenders by name; a contender's libraries are imported only in its own process."""

from __future__ import annotations

from importlib import import_module

from benchmarks.retrieval.contender import Contender
from interactions.errors import UserError

OURS = "tandem"
_PLACES = {
    "popularity": "baselines.popular:POPULARITY",
    "recent_popularity": "baselines.popular:RECENT_POPULARITY",
    "own_history": "baselines.own_history:OWN_HISTORY",
    "item_knn": "baselines.neighbours:ITEM_KNN",
    "item_knn_recent": "baselines.neighbours:ITEM_KNN_RECENT",
    "tfidf": "baselines.content:TFIDF",
    "ease": "baselines.ease:EASE",
    "ease_recent": "baselines.ease:EASE_RECENT",
    "ials": "baselines.factors:IALS",
    "bpr": "baselines.factors:BPR",
    "tutorial": "baselines.tutorial:TUTORIAL",
    OURS: "ours:OURS",
}
"""By name: module and attribute."""
NAMES = tuple(_PLACES)


def contender(name: str) -> Contender:
    """Return the contender called `name`; raises `UserError` where there is none."""
    if name not in _PLACES:
        raise UserError(f"model {name!r} is unknown; there are {', '.join(NAMES)}")
    module, attribute = _PLACES[name].split(":")
    return getattr(import_module(f"benchmarks.retrieval.{module}"), attribute)
