import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from evaluation.bootstrap import Estimate
from evaluation.metrics import calibration_curve
from evaluation.plots import plot_calibration, plot_models
from evaluation.report import Metrics
from interactions.errors import UserError


def metrics() -> Metrics:
    made = Metrics()
    made.add("popularity", {"ndcg@10": Estimate(0.1, 0.05, 0.15, 9)})
    made.add("recommender", {"ndcg@10": Estimate(0.3, math.nan, math.nan, 9)})
    return made


def test_bars_are_drawn_for_what_was_measured(tmp_path):
    plot_models(metrics(), tmp_path / "one.png")
    plot_models(metrics(), tmp_path / "fewer.png", whats=("popularity",))
    one, fewer = imread(tmp_path / "one.png"), imread(tmp_path / "fewer.png")
    assert one.std() > 0
    assert one.shape == fewer.shape and not (one == fewer).all()


def test_a_panel_per_task(tmp_path):
    random = np.random.default_rng(0)
    predictions = random.random(200)
    curve = calibration_curve((random.random(200) < predictions).astype(int), predictions)
    plot_calibration({"purchase": curve}, tmp_path / "one.png")
    plot_calibration({"purchase": curve, "rating": curve}, tmp_path / "two.png")
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="none of"):
        plot_models(metrics(), tmp_path / "a.png", columns=("recall@7",))
    with pytest.raises(ValueError, match="curves"):
        plot_calibration({}, tmp_path / "a.png")


def test_an_unwritable_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        plot_models(metrics(), tmp_path / "no" / "folder.png")


def test_the_room_is_plain_numpy():
    loads = (
        "import sys, evaluation.plots, evaluation.baselines, evaluation.ranking, evaluation.slices;"
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'keras', 'tf_keras') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", loads], check=False).returncode == 0
