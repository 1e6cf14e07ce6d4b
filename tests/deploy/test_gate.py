"""The gate between a new version and the traffic."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).parents[2] / "deploy" / "gate.py"


def manifest(folder, version, **metrics):
    file = folder / f"{version}.json"
    values = {
        name: {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 100}
        for name, value in metrics.items()
    }
    file.write_text(json.dumps({"version": version, "metrics": values}))
    return file


def gate(*arguments):
    command = [sys.executable, GATE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("value", "status"), [(0.12, 0), (0.095, 0), (0.08, 1)])
def test_a_version_passes_unless_it_falls_out_of_the_interval(tmp_path, value, status):
    old, new = manifest(tmp_path, 1, m=0.1), manifest(tmp_path, 2, m=value)
    done = gate(old, new, "--metric", "m")
    assert done.returncode == status
    assert ("WORSE" in done.stdout) == (status == 1)


def test_one_worse_metric_of_two_is_enough(tmp_path):
    old, new = manifest(tmp_path, 1, m=0.1, n=0.5), manifest(tmp_path, 2, m=0.2, n=0.1)
    assert gate(old, new, "--metric", "m", "--metric", "n").returncode == 1


def test_what_cannot_be_compared_is_said(tmp_path):
    old = manifest(tmp_path, 1, m=0.1)
    for new, metric in ((manifest(tmp_path, 2, n=0.1), "m"), (tmp_path / "missing", "m")):
        done = gate(old, new, "--metric", metric)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
