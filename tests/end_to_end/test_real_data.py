"""The shipped configs on real data, one epoch each: that they run, not how well."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tandem.config import load_config
from tandem.fit import fit

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "movielens-latest-small": {"rating.rmse"},
    "amazon-electronics": {"rating.rmse"},
    "completejourney": {"spend.rmse", "multiple.auc"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_fits_real_data(name, tmp_path):
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    if not Path(config.data.events).exists():
        pytest.skip(f"{config.data.events} is not there: the data is not part of the repository")
    short = {
        stage: getattr(config, stage).model_copy(
            update={
                "schedule": getattr(config, stage).schedule.model_copy(update={"max_epochs": 1})
            }
        )
        for stage in ("retrieval", "ranking")
    }
    fit(config.model_copy(update=short), run=tmp_path, console=Console(quiet=True))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {f"ranking.{task}" for task in CONFIGS[name]} <= metrics.keys()
    assert metrics["recommender.ndcg@10"]["n"] > 100
    assert metrics["retrieval.recall@100"]["value"] > metrics["retrieval.hit_rate@10"]["value"] > 0
