"""deploy/smoke.sh where it cannot or must not run."""

import os
import subprocess
import sys
from pathlib import Path

SMOKE = Path(__file__).parents[2] / "deploy" / "smoke.sh"


def run(*arguments, **environment):
    return subprocess.run(
        [SMOKE, *arguments],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_an_engine_it_says_that_it_skipped(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    done = run(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/no-engine")
    assert done.returncode == 0
    assert done.stdout.startswith("SKIPPED: ")


def test_without_docker_it_says_that_it_skipped(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    done = run(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0, done
    assert done.stdout.startswith("SKIPPED: ")


def test_without_a_bundle_it_says_how_it_is_called(tmp_path):
    for arguments in ([], [tmp_path], [tmp_path, tmp_path]):
        done = run(*arguments)
        assert done.returncode == 2
        assert "usage" in done.stderr and "tandem export" in done.stderr
