"""How figures are written."""

import math

import numpy as np
import pytest

from benchmarks.jobs import Job, open_results, work, write_json
from benchmarks.tables import interval, percent, plain, rounded, table
from evaluation.bootstrap import Estimate
from interactions.errors import UserError


def test_what_is_undefined_is_null_in_json():
    assert plain({"low": math.nan, "list": [np.inf, 1.0]}) == {"low": None, "list": [None, 1.0]}


def test_a_table_has_its_numbers_to_the_right():
    assert table(["model", "value"], [["ours", "1"]]).splitlines() == [
        "| model | value |", "| --- | ---: |", "| ours | 1 |",
    ]  # fmt: skip


def test_intervals_are_said_where_they_are_known():
    assert interval(Estimate(0.12345, 0.1, 0.2, 5)) == "0.1235 [0.1000, 0.2000]"
    assert interval(Estimate(1.5, math.nan, math.nan, 5), signed=True) == "+1.50"
    assert interval(Estimate(math.nan, math.nan, math.nan, 0)) == "undefined"
    assert percent(Estimate(-0.01, -0.02, 0.005, 5)) == "-1.0 % [-2.0, +0.5]"


def test_three_digits_are_enough_for_a_timing():
    assert [rounded(value) for value in (123_456, 1.234, 0.01234)] == ["123,000", "1", "0.012"]


def job(tmp_path, code):
    """A module that writes a file, or ends as it is told."""
    return Job("a job", "timeit", ("-n1", "-r1", code), tmp_path / "done")


def test_a_job_that_is_done_is_not_run_again(tmp_path, quiet):
    code = f"open({str(tmp_path / 'done')!r}, 'a').write('x')"
    work([job(tmp_path, code)], console=quiet)
    work([job(tmp_path, code)], console=quiet)
    assert (tmp_path / "done").read_text() == "x"


def test_a_users_mistake_is_told_from_a_fault(tmp_path, quiet):
    mistake = Job("a job", "json.tool", (str(tmp_path / "missing"),), tmp_path / "done")
    with pytest.raises(UserError, match="missing"):
        work([mistake], console=quiet)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        work([job(tmp_path, "1 / 0")], console=quiet)


def test_quick_figures_are_not_mixed_with_real_ones(tmp_path):
    open_results(tmp_path, quick=True)
    open_results(tmp_path, quick=True)
    with pytest.raises(UserError, match="with --quick; name another --out"):
        open_results(tmp_path, quick=False)


def test_json_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "done.json", {"set": {1}})
    assert not (tmp_path / "done.json").exists()


@pytest.fixture
def quiet():
    from rich.console import Console

    return Console(quiet=True)
