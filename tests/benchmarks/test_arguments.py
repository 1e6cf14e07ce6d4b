import argparse

import pytest

from benchmarks.arguments import results_folder


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=results_folder, default="results")
    return parser.parse_args(arguments).out


def test_a_folder_for_results_is_made_also_where_none_is_named(tmp_path, monkeypatch):
    assert parsed("--out", str(tmp_path / "a" / "b")).is_dir()
    monkeypatch.chdir(tmp_path)
    assert parsed().is_dir() and (tmp_path / "results").is_dir()
    assert not list((tmp_path / "results").iterdir())


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        parsed("--out", str(tmp_path / "file" / "results"))
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "results cannot be written to (Not a directory); name a folder" in last
