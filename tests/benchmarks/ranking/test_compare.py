"""The command, and what it refuses."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks.jobs import ROOT
from benchmarks.ranking.compare import belongs, is_default, run
from benchmarks.ranking.contenders import NAMES, contender
from benchmarks.ranking.problem import find_problem
from benchmarks.retrieval import datasets
from interactions.errors import UserError


def test_unknown_names_are_said(tmp_path):
    quiet = Console(quiet=True)
    with pytest.raises(UserError, match=r"'netflix' is unknown.*amazon-electronics"):
        run(["netflix"], ["retrieval"], seeds=1, out=tmp_path, quick=True, console=quiet)
    with pytest.raises(UserError, match=r"'xgboost' is unknown.*lightgbm"):
        run(["quick"], ["xgboost"], seeds=1, out=tmp_path, quick=True, console=quiet)


def test_a_folder_without_candidates_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no candidates"):
        find_problem(tmp_path)


def test_a_version_that_is_the_default_is_not_trained_twice(tmp_path):
    config = datasets._config("quick", tmp_path)
    assert not is_default(contender("tandem"), config)
    assert not is_default(contender("lightgbm"), config)
    other = contender("mmoe")
    changed = config.ranking.model_copy(update=dict(other.changes))
    assert is_default(other, config.model_copy(update={"ranking": changed}))
    assert not is_default(other, config)


def test_selection_is_corrected_only_where_exposures_have_no_rating(tmp_path):
    shop, films = (datasets._config(name, tmp_path) for name in ("quick", "ml-latest-small"))
    corrected = contender("doubly_robust")
    assert not is_default(corrected, shop)
    assert is_default(corrected, films)
    rating = shop.tasks["rating"].model_copy(update={"selection": "doubly_robust"})
    assert is_default(
        corrected, shop.model_copy(update={"tasks": {**shop.tasks, "rating": rating}})
    )


def test_the_oracle_is_asked_where_the_truth_is_known(tmp_path):
    shop, films = (datasets._config(name, tmp_path) for name in ("quick", "ml-latest-small"))
    assert belongs(contender("oracle"), shop) and not belongs(contender("oracle"), films)
    assert belongs(contender("lightgbm"), films)


@pytest.mark.slow
def test_one_command_compares_everything(tmp_path):
    command = [sys.executable, "-m", "benchmarks.ranking.compare", "--quick", "--seeds", "1"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    data = json.loads((tmp_path / "compare.json").read_text())["data"][0]
    names = {result["name"] for result in data["results"]}
    assert names <= set(NAMES) and {"tandem", "single_task", "lightgbm", "mmoe"} <= names
    assert "gap_closed" in data["relative_gain_of_tandem_over"]["retrieval"]
    assert (tmp_path / "compare.png").stat().st_size > 0
    assert "gain of Tandem over" in (tmp_path / "compare.md").read_text()
