"""Plots of trade-offs."""

import numpy as np
import pytest

from evaluation.trade_offs import TradeOff, plot_trade_offs
from interactions.errors import UserError


def trade_off(**given):
    values = np.array([0.1, 0.3, 0.2]), np.array([3.0, 1.0, 1.5])
    return TradeOff("rating", values[0], "NDCG", values[1], "mean rating", **given)


def test_a_panel_per_trade_off_is_drawn(tmp_path):
    one, both = tmp_path / "one.png", tmp_path / "both.png"
    plot_trade_offs([trade_off(marks=(("chosen", 1),), least_across=0.15, least_up=1.2)], one)
    plot_trade_offs([trade_off(), trade_off()], both)
    assert one.read_bytes().startswith(b"\x89PNG")
    assert both.stat().st_size > one.stat().st_size


def test_nothing_to_draw_and_nowhere_to_write_are_said(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        plot_trade_offs([], tmp_path / "plot.png")
    with pytest.raises(UserError, match="name a folder"):
        plot_trade_offs([trade_off()], tmp_path / "missing" / "plot.png")
