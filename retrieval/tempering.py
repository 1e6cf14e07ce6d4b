"""How much taste counts against popularity: a factor chosen on validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from interactions.errors import UserError
from retrieval.model import Retriever
from training.storage import write_json

_STEP = 1 / math.sqrt(2)
_FILE = "sharpness.json"


def temper(retriever: Retriever, validate: Callable[[Retriever], float]) -> float:
    """Scale what a query says of taste by the factor that validates best, and return the factor.

    A retriever trained over few events for many epochs is too sure of what it has seen, and its
    learnt temperature with it; the trends, three weights, are not. Temperature scaling (Guo et al.
    2017), by the metric of `validate` instead of the likelihood: from 1 downwards, or else upwards,
    in steps of the square root of 2 as long as each is better than the one before.
    """
    best, chosen = validate(retriever), 1.0
    for step in (_STEP, 1 / _STEP):
        factor = chosen
        while True:
            retriever.sharpen(step)
            found = validate(retriever)
            if not found > best:
                retriever.sharpen(1 / step)
                break
            factor *= step
            best = found
        if factor != chosen:
            return factor
    return chosen


def settle_sharpness(
    retriever: Retriever,
    *,
    folder: Path,
    step: int,
    validate: Callable[[Retriever], float] | None,
    given: float | None = None,
) -> None:
    """Scale the retriever of `step` by the factor kept in `folder`, given, or chosen now; keep it.

    Raises:
        UserError: what was kept cannot be read.
    """
    kept = _kept(folder)
    if kept is not None and kept["step"] == step:
        retriever.sharpen(kept["sharpness"])
        return
    if given is None and validate is not None:
        given = temper(retriever, validate)
    elif given is not None:
        retriever.sharpen(given)
    write_json(folder / _FILE, {"sharpness": 1.0 if given is None else given, "step": step})


def kept_sharpness(folder: Path) -> float:
    """Return the factor kept beside a trained retriever; 1 where there is none.

    Raises:
        UserError: it cannot be read.
    """
    kept = _kept(folder)
    return 1.0 if kept is None else kept["sharpness"]


def _kept(folder: Path) -> dict[str, float] | None:
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(content[name]) for name in ("sharpness", "step")}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read; remove {folder} to train it anew") from error
