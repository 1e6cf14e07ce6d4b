"""The options of `tandem recommend` that say what may come: from text to wishes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from interactions.errors import UserError

if TYPE_CHECKING:
    from serving.wishes import Wishes

_CONDITION = re.compile(r"\s*([^=<>!]+?)\s*(!=|<=|>=|=)\s*(.+?)\s*")
_WEIGHT = re.compile(r"\s*([^=]+?)\s*=\s*(-?\d+\.?\d*|-?\.\d+)\s*")
_CAP = re.compile(r"\s*([^=]+?)\s*=\s*(\d+)\s*")


def wish_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them by the names of `wishes`."""
    options = (
        click.option("--exclude", multiple=True, help="An item that must not come."),
        click.option("--allow", multiple=True, help="An item of those that alone may come."),
        click.option(
            "--where",
            multiple=True,
            metavar="RULE",
            help="A rule over a filterable feature: category=shoes, category!=hats, price<=50 or "
            "price>=10. Several values of one category: one of them is enough.",
        ),
        click.option(
            "--at-most",
            multiple=True,
            metavar="FEATURE=N",
            help="At most N items may share a value: brand=2.",
        ),
        click.option(
            "--weight",
            multiple=True,
            metavar="TASK=W",
            help="How much a task counts in the score, others as exported: purchase=2.",
        ),
        click.option(
            "--diversity",
            type=click.FloatRange(0, 1),
            default=0.0,
            help="From 0, by score alone, to 1, by difference alone.",
        ),
        click.option("--explain", is_flag=True, help="Say which item of the history is closest."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def wishes(
    *,
    exclude: Sequence[str],
    allow: Sequence[str],
    where: Sequence[str],
    at_most: Sequence[str],
    weight: Sequence[str],
    diversity: float,
    explain: bool,
) -> Wishes | None:
    """Return what the options wish, None where they are all left out.

    Raises UserError for a rule that cannot be read.
    """
    if not (exclude or allow or where or at_most or weight or diversity or explain):
        return None
    from serving.wishes import Wishes

    categories: dict[str, dict[str, list[str]]] = {"=": defaultdict(list), "!=": defaultdict(list)}
    numbers: dict[str, dict[str, float]] = {">=": {}, "<=": {}}
    for rule in where:
        feature, sign, value = _condition(rule)
        if sign in categories:
            categories[sign][feature].append(value)
        else:
            numbers[sign][feature] = _number(rule, value)
    return Wishes(
        exclude=exclude,
        allow=allow or None,
        only=categories["="],
        never=categories["!="],
        least=numbers[">="],
        most=numbers["<="],
        at_most=dict(_cap(one) for one in at_most),
        task_weights=dict(_weight(one) for one in weight),
        diversity=diversity,
        explain=explain,
    )


def _condition(rule: str) -> tuple[str, str, str]:
    match = _CONDITION.fullmatch(rule)
    if match is None:
        raise UserError(
            f"--where {rule!r} is no rule; give one such as category=shoes, category!=hats, "
            "price<=50 or price>=10"
        )
    feature, sign, value = match.groups()
    return feature, sign, value


def _number(rule: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise UserError(
            f"--where {rule!r} compares with {value!r}, no number; give one, as in price<=50"
        ) from error


def _cap(text: str) -> tuple[str, int]:
    match = _CAP.fullmatch(text)
    if match is None:
        raise UserError(f"--at-most {text!r} is no cap; give FEATURE=N, such as brand=2")
    return match.group(1), int(match.group(2))


def _weight(text: str) -> tuple[str, float]:
    match = _WEIGHT.fullmatch(text)
    if match is None:
        raise UserError(f"--weight {text!r} is no weight; give TASK=W, such as purchase=2")
    return match.group(1), float(match.group(2))
