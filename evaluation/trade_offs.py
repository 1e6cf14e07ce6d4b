"""What is gained in one thing for what is given up in another: efficient choices, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from evaluation.plots import save_figure


@dataclass(frozen=True)
class TradeOff:
    """Two qualities of several choices, both better when higher."""

    name: str
    """Of the panel."""
    across: np.ndarray
    """[n] float: along the horizontal axis."""
    across_name: str
    up: np.ndarray
    """[n] float: along the vertical axis."""
    up_name: str
    marks: tuple[tuple[str, int], ...] = ()
    """Choices to point out: what they are called, and their number."""
    least_across: float | None = None
    """What had to be reached along the horizontal axis."""
    least_up: float | None = None
    """What had to be reached along the vertical axis."""


def efficient(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the numbers of the choices that no other beats in both qualities, by rising `first`.

    `first` and `second` are [n] float, higher is better; of equal choices one is returned. This is
    the Pareto front.
    """
    order = np.lexsort((-second, -first))
    best = np.maximum.accumulate(second[order])
    ahead = np.concatenate([[-np.inf], best[:-1]])
    return order[second[order] > ahead][::-1]


def plot_trade_offs(trade_offs: Sequence[TradeOff], path: Path) -> None:
    """Draw a panel per trade-off: every choice, the efficient ones joined, some pointed out.

    Raises ValueError without a trade-off, UserError where `path` is unwritable.
    """
    if not trade_offs:
        raise ValueError("trade_offs: nothing to draw; give at least one")
    figure = Figure(figsize=(4.6 * len(trade_offs), 3.9), layout="constrained")
    panels = figure.subplots(1, len(trade_offs), squeeze=False)[0]
    for one, axes in zip(trade_offs, panels, strict=True):
        front = efficient(one.across, one.up)
        axes.scatter(one.across, one.up, s=8, color="0.75", label="tried")
        axes.plot(one.across[front], one.up[front], marker=".", color="C0", label="efficient")
        for number, (name, choice) in enumerate(one.marks):
            axes.scatter(
                one.across[choice], one.up[choice], s=60, marker="D*sv^"[number % 5],
                color=f"C{number + 1}", label=name, zorder=3,
            )  # fmt: skip
        if one.least_across is not None:
            axes.axvline(one.least_across, color="0.5", linestyle=":", label="at least")
        if one.least_up is not None:
            axes.axhline(one.least_up, color="0.5", linestyle=":")
        axes.set(title=one.name, xlabel=one.across_name, ylabel=one.up_name)
        axes.legend(fontsize="small")
    save_figure(figure, path)
