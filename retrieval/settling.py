"""What validation settles once the weights are learnt: a few numbers that scores depend on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from interactions.errors import UserError
from retrieval.model import Retriever
from retrieval.repeats import RepeatBonus
from training.storage import write_json

_SHARPER = math.sqrt(2)
_BONUS_STEP = 0.5
_FILE = "settled.json"


@dataclass(frozen=True)
class Settled:
    """What was settled; the values here change nothing."""

    sharpness: float = 1.0
    """Factor on taste against popularity."""
    repeat_once: float = 0.0
    """See `retrieval.repeats.RepeatBonus`."""
    repeat_again: float = 0.0

    def apply(self, retriever: Retriever) -> None:
        """Let a retriever score by it, one that scores by nothing of the kind yet."""
        retriever.sharpen(self.sharpness)
        retriever.reward_repeats(RepeatBonus(self.repeat_once, self.repeat_again))


def settle(
    retriever: Retriever, validate: Callable[[Retriever], float], *, repeats: bool
) -> Settled:
    """Find what validates best, and let the retriever score by it.

    A retriever trained over few events for many epochs is too sure of what it has seen, and its
    learnt temperature with it; the trends, three weights, are not. So taste is scaled: temperature
    scaling (Guo et al. 2017), by the metric of `validate` instead of the likelihood. Where items
    `repeats`, the bonus of what the user chose before follows, which begins at 0 and only grows.
    Each number in turn moves in steps as long as each is better than the one before; sharpness
    downwards, or else upwards.
    """
    best = _Best(retriever, validate)
    best.sharpen()
    if repeats:
        best.reward("repeat_once")
        best.reward("repeat_again")
    return best.settled


class _Best:
    """The best values so far, by which the retriever scores between calls."""

    def __init__(self, retriever: Retriever, validate: Callable[[Retriever], float]) -> None:
        self.settled = Settled()
        self._retriever, self._validate = retriever, validate
        self._metric = validate(retriever)

    def sharpen(self) -> None:
        for step in (1 / _SHARPER, _SHARPER):
            moved = False
            while self._better(lambda step=step: self._retriever.sharpen(step)):
                moved = True
                self.settled = replace(self.settled, sharpness=self.settled.sharpness * step)
            self._retriever.sharpen(1 / step)
            if moved:
                return

    def reward(self, name: str) -> None:
        while self._better(lambda: self._reward(name, _BONUS_STEP)):
            self.settled = self._with(name, _BONUS_STEP)
        self._reward(name, 0.0)

    def _reward(self, name: str, more: float) -> None:
        tried = self._with(name, more)
        self._retriever.reward_repeats(RepeatBonus(tried.repeat_once, tried.repeat_again))

    def _with(self, name: str, more: float) -> Settled:
        return replace(self.settled, **{name: getattr(self.settled, name) + more})

    def _better(self, change: Callable[[], None]) -> bool:
        change()
        metric = self._validate(self._retriever)
        better = metric > self._metric
        self._metric = max(metric, self._metric)
        return better


def settle_once(
    retriever: Retriever,
    *,
    folder: Path,
    step: int,
    validate: Callable[[Retriever], float] | None,
    repeats: bool,
    given: Settled | None = None,
) -> None:
    """Let the retriever of `step` score by what is given, kept in `folder`, or settled now.

    It is kept there from then on.

    Raises:
        UserError: what was kept cannot be read.
    """
    found = _kept(folder)
    if given is None and found is not None and found[1] == step:
        found[0].apply(retriever)
        return
    if given is None and validate is not None:
        given = settle(retriever, validate, repeats=repeats)
    else:
        given = given or Settled()
        given.apply(retriever)
    write_json(folder / _FILE, {**asdict(given), "step": step})


def kept(folder: Path) -> Settled:
    """Return what is kept beside a trained retriever.

    Raises:
        UserError: it is not there or cannot be read.
    """
    found = _kept(folder)
    if found is None:
        raise UserError(
            f"{folder / _FILE} is not there: the run is not complete, or an earlier version made "
            "it; train into another folder with `tandem fit`"
        )
    return found[0]


def _kept(folder: Path) -> tuple[Settled, int] | None:
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        step = int(content.pop("step"))
        return Settled(**{name: float(value) for name, value in content.items()}), step
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read; remove {folder} to train it anew") from error
