"""How figures are written: Markdown tables, intervals, plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.bootstrap import Estimate


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Return a value with its interval in brackets."""
    sign = "+" if signed else ""
    digits = 4 if abs(estimate.value) < 1 else 2
    if math.isnan(estimate.value):
        return "undefined"
    value = f"{estimate.value:{sign}.{digits}f}"
    if math.isnan(estimate.low):
        return value
    return f"{value} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def percent(estimate: Estimate) -> str:
    """Return a relative difference and its interval in percent, signed."""
    if math.isnan(estimate.value):
        return "undefined"
    value, low, high = (
        f"{100 * end:+.1f}" for end in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} %" if math.isnan(estimate.low) else f"{value} % [{low}, {high}]"


def rounded(value: float) -> str:
    """Return three significant digits: timings are no more exact."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 1 else f"{value:.2g}"


def plain(value: Any) -> Any:
    """Return nested values as JSON can hold them; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
