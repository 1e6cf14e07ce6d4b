"""All contenders by name; a contender's libraries are imported only in its own process."""

from __future__ import annotations

from importlib import import_module

from benchmarks.ranking.contender import Contender
from interactions.errors import UserError

OURS, SINGLE, FIRST_STAGE, TREES = "tandem", "single_task", "retrieval", "lightgbm"
_PLACES = {
    FIRST_STAGE: "baselines.simple:RETRIEVAL_ORDER",
    "oracle": "baselines.oracle:ORACLE",
    "constant": "baselines.simple:CONSTANT",
    "user_mean": "baselines.simple:USER_MEAN",
    "item_mean": "baselines.simple:ITEM_MEAN",
    "factorisation": "baselines.factorisation:FACTORISATION",
    TREES: "baselines.trees:TREES",
    OURS: "ours:OURS",
    SINGLE: "ours:SINGLE_TASK",
    "shared_bottom": "ours:SHARED_BOTTOM",
    "mmoe": "ours:MMOE",
    "ple": "ours:PLE",
    "uncertainty": "ours:UNCERTAINTY",
    "gradnorm": "ours:GRADNORM",
    "pcgrad": "ours:PCGRAD",
    "inverse_propensity": "ours:INVERSE_PROPENSITY",
    "doubly_robust": "ours:DOUBLY_ROBUST",
}
"""By name: module and attribute."""
NAMES = tuple(_PLACES)


def contender(name: str) -> Contender:
    """Return the contender called `name`; raises `UserError` where there is none."""
    if name not in _PLACES:
        raise UserError(f"model {name!r} is unknown; there are {', '.join(NAMES)}")
    module, attribute = _PLACES[name].split(":")
    return getattr(import_module(f"benchmarks.ranking.{module}"), attribute)


def seeds_of(subject: Contender, seeds: int) -> range:
    """Return the seeds at which a contender is judged: one where nothing depends on it."""
    return range(seeds if subject.seeded else 1)
