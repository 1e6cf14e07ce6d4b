"""The command, and what it refuses."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks.jobs import ROOT
from benchmarks.ranking.compare import is_default, run
from benchmarks.ranking.contenders import NAMES, contender
from benchmarks.ranking.problem import find_problem
from interactions.errors import UserError
from ranking.config import RankingConfig


def test_unknown_names_are_said(tmp_path):
    quiet = Console(quiet=True)
    with pytest.raises(UserError, match=r"'netflix' is unknown.*amazon-electronics"):
        run(["netflix"], ["retrieval"], seeds=1, out=tmp_path, quick=True, console=quiet)
    with pytest.raises(UserError, match=r"'xgboost' is unknown.*lightgbm"):
        run(["quick"], ["xgboost"], seeds=1, out=tmp_path, quick=True, console=quiet)


def test_a_folder_without_candidates_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no candidates"):
        find_problem(tmp_path)


def test_a_version_that_is_the_default_is_not_trained_twice():
    config = RankingConfig()
    assert not is_default(contender("tandem"), config)
    assert not is_default(contender("lightgbm"), config)
    other = contender("mmoe")
    assert is_default(other, config.model_copy(update=dict(other.changes)))
    assert is_default(other, config) == (config.experts == "mmoe")


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
