"""The comparison of rating predictors, on a tiny marketplace split by lot."""

import math

import numpy as np
from rich.console import Console


def test_everybody_predicts_the_same_rows_and_ours_is_held_against_them(tmp_path):
    from benchmarks.ranking.ratings import CONTENDERS, OURS, compare_ratings, markdown

    compared = compare_ratings("quick", tmp_path, seeds=2, console=Console(quiet=True))
    assert [one.title for one in compared] == [one.title for one in CONTENDERS]
    assert len({one.rmse.n for one in compared}) == 1
    for one in compared:
        assert 0 < one.rmse.low <= one.rmse.value <= one.rmse.high
        assert len(one.by_seed) == 2
        pooled = np.sqrt(np.mean(np.square(one.by_seed)))
        assert math.isclose(one.rmse.value, pooled, rel_tol=0.05)
    ours = next(one for one in compared if one.title == OURS.title)
    constant = compared[0]
    assert ours.gain is None and constant.gain is not None
    gain = 1 - ours.rmse.value / constant.rmse.value
    assert math.isclose(constant.gain.value, gain, abs_tol=1e-9)
    assert OURS.title in markdown("quick", compared)
