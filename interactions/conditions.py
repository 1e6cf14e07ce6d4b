"""Conditions on columns, such as `rating >= 4 and event == 'view'`: parsed, never run as code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from interactions.columns import as_numbers, as_strings
from interactions.errors import UserError

_COMPARE = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">": pc.greater,
    "<": pc.less,
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CLAUSE = re.compile(
    rf"\s*(?:`(?P<quoted>[^`]+)`|(?P<plain>[^\W\d][\w.\-]*))\s*(?P<operator>>=|<=|==|!=|>|<)\s*"
    rf"(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<number>{_NUMBER}|true|false))\s*"
)
_AND = re.compile(r"and\b")


@dataclass(frozen=True)
class Clause:
    """One comparison of a column with a number or a text."""

    column: str
    operator: str
    value: float | str


@dataclass(frozen=True)
class Condition:
    """Clauses that must all hold."""

    text: str
    clauses: tuple[Clause, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse clauses `column operator value` joined by `and`; `UserError` where it is none.

        Operators are >= <= == != > <; values are numbers, true, false or quoted text; a column
        whose name is no plain word stands in backquotes.
        """
        clauses, position = [], 0
        while True:
            match = _CLAUSE.match(text, position)
            if match is None:
                raise _unreadable(text)
            clauses.append(_clause(match))
            position = match.end()
            if position == len(text):
                return cls(text, tuple(clauses))
            joined = _AND.match(text, position)
            if joined is None:
                raise _unreadable(text)
            position = joined.end()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns compared, each once."""
        return tuple(dict.fromkeys(clause.column for clause in self.clauses))

    def holds(self, table: pa.Table) -> pa.ChunkedArray:
        """Return where it holds, bool [rows], null where a column it needs is null.

        Raises `UserError` where a column is missing, or a number is compared with a text's column.
        """
        result = None
        for clause in self.clauses:
            one = _compared(clause, table, self.text)
            result = one if result is None else pc.and_kleene(result, one)
        assert result is not None
        return result


def is_condition(text: str) -> bool:
    """Say whether `text` compares something, so that it cannot be a column's plain name."""
    return re.search(r"[<>=]", text) is not None


def _clause(match: re.Match[str]) -> Clause:
    column = match["quoted"] or match["plain"]
    number = match["number"]
    if number is None:
        text = match["single"] if match["single"] is not None else match["double"]
        return Clause(column, match["operator"], text)
    value = {"true": 1.0, "false": 0.0}.get(number)
    return Clause(column, match["operator"], float(number) if value is None else value)


def _compared(clause: Clause, table: pa.Table, text: str) -> pa.ChunkedArray:
    if clause.column not in table.column_names:
        raise UserError(
            f"condition {text!r}: there is no column {clause.column!r}; "
            f"the columns are {', '.join(table.column_names)}"
        )
    column = table[clause.column]
    compare = _COMPARE[clause.operator]
    if isinstance(clause.value, str):
        return compare(as_strings(column), clause.value)
    numbers = as_numbers(
        column, name=clause.column, remedy=f"compare it with a text in quotes in {text!r}"
    )
    return compare(pa.chunked_array([pa.array(numbers, from_pandas=True)]), clause.value)


def _unreadable(text: str) -> UserError:
    return UserError(
        f"condition {text!r} cannot be read; write a column, one of >= <= == != > <, and a number "
        "or a quoted text, e.g. rating >= 4, joined by `and`"
    )
