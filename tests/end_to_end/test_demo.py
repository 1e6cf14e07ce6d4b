"""The main job, on the smallest marketplace."""

import io

import pytest
from rich.console import Console


@pytest.mark.slow
def test_the_demo_says_everything_and_leaves_everything(tmp_path):
    from tandem.demo import run_demo

    told = io.StringIO()
    run_demo(tmp_path / "run", preset="seed", console=Console(file=told, width=160))
    text = told.getvalue()
    for said in ("popularity", "recommender", "oracle", "ndcg@5", "Recommendations for", "rating"):
        assert said in text, said
    assert str(tmp_path / "run" / "batch") in text
    for made in ("metrics.json", "bundle/manifest.json", "batch/_SUCCESS", "plots/models.png"):
        assert (tmp_path / "run" / made).exists(), made
    again = io.StringIO()
    run_demo(tmp_path / "run", preset="seed", console=Console(file=again, width=160))
    assert "epoch 1 " not in again.getvalue()  # trained once
