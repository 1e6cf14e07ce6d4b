import json

import numpy as np

from benchmarks.export.bars import Bar, alternating, ratio, report


def test_calls_take_turns_and_only_the_rounds_count():
    told = []
    times = alternating({"a": lambda: told.append("a"), "b": lambda: told.append("b")}, rounds=4)
    assert told == ["a", "b"] * 7
    assert times["a"].shape == times["b"].shape == (4,)


def test_a_ratio_looks_past_slow_moments():
    slow = np.array([2.0] * 6 + [90.0] * 4)
    assert ratio({"a": slow, "b": np.array([1.0] * 7 + [500.0] * 3)}, "a", "b") == 2.0


def test_a_bar_that_is_not_met_is_told(tmp_path, capsys):
    bars = [Bar("time", 0.5, 1.0), Bar("recall", 0.98, 0.99, at_least=True)]
    assert report("name", bars, out=tmp_path, more=3) == 1
    written = json.loads((tmp_path / "name.json").read_text())
    assert [bar["met"] for bar in written["bars"]] == [True, False]
    assert written["more"] == 3
    assert "NO" in capsys.readouterr().out
    assert report("name", bars[:1], out=tmp_path) == 0
