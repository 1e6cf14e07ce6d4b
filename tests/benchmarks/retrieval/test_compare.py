import json
import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks.retrieval.compare import run
from benchmarks.retrieval.contenders import NAMES
from benchmarks.retrieval.datasets import ROOT
from interactions.errors import UserError


def test_quick_figures_are_not_mixed_with_real_ones(tmp_path):
    (tmp_path / "settings.json").write_text('{"quick": true}')
    with pytest.raises(UserError, match="with --quick; name another --out"):
        run([], [], seeds=1, out=tmp_path, quick=False, console=Console(quiet=True))


def test_an_unknown_data_set_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'netflix' is unknown.*amazon-electronics"):
        run(["netflix"], ["ease"], seeds=1, out=tmp_path, quick=True, console=Console(quiet=True))


@pytest.mark.slow
def test_one_command_compares_everything(tmp_path):
    command = [sys.executable, "-m", "benchmarks.retrieval.compare", "--quick", "--seeds", "1"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    data = json.loads((tmp_path / "compare.json").read_text())["data"][0]
    assert [result["name"] for result in data["results"]] == list(NAMES)
    assert all(len(result["runs"]) == 1 for result in data["results"])
    assert set(data["pairs"]) == set(NAMES) - {"tandem"}
    assert (tmp_path / "compare.png").stat().st_size > 0
    text = (tmp_path / "compare.md").read_text()
    assert "Tandem against" in text and "cores:" in text
