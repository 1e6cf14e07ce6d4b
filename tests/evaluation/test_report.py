import json
import math

import numpy as np
import pytest
from rich.console import Console

from evaluation.bootstrap import Estimate
from evaluation.report import Metrics, cell, markdown, table, value_share
from interactions.errors import UserError

NAN = math.nan


@pytest.fixture
def metrics():
    made = Metrics()
    made.add("recommender", {"ndcg@10": Estimate(0.3, 0.25, 0.35, 90)})
    made.add("popularity", {"ndcg@10": Estimate(0.1, 0.05, 0.15, 90)})
    made.add("popularity", {"coverage@10": Estimate(0.02, NAN, NAN, 90)})
    made.add("ranking.rating", {"rmse": Estimate(NAN, NAN, NAN, 0)})
    return made


def test_the_file_is_flat_with_null_for_the_unknown(metrics, tmp_path):
    path = tmp_path / "metrics.json"
    metrics.write(path)
    content = json.loads(path.read_text())
    assert content == {
        "recommender.ndcg@10": {"value": 0.3, "low": 0.25, "high": 0.35, "n": 90},
        "popularity.ndcg@10": {"value": 0.1, "low": 0.05, "high": 0.15, "n": 90},
        "popularity.coverage@10": {"value": 0.02, "low": None, "high": None, "n": 90},
        "ranking.rating.rmse": {"value": None, "low": None, "high": None, "n": 0},
    }
    assert list(content) == list(metrics)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_metrics_come_back_as_they_were(metrics, tmp_path):
    metrics.write(tmp_path / "metrics.json")
    back = Metrics.read(tmp_path / "metrics.json")
    assert list(back) == list(metrics)
    for key in metrics:
        np.testing.assert_equal(vars(back[key]), vars(metrics[key]))


def test_numpy_numbers_are_written(tmp_path):
    made = Metrics()
    made.add("x", {"m": Estimate(np.float64(0.5), np.float64(0.4), np.float64(0.6), np.int64(3))})  # type: ignore[arg-type]
    made.write(tmp_path / "metrics.json")
    assert Metrics.read(tmp_path / "metrics.json")["x.m"] == Estimate(0.5, 0.4, 0.6, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"a.b": {"value": 1}}', "a.b is"),
        ('{"a.b": 3}', "a.b is 3"),
        ('{"a.b": {"value": "x", "low": 1, "high": 1, "n": 1}}', "a.b is"),
    ],
)
def test_a_broken_file_is_one_line_with_the_remedy(tmp_path, content, says):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        Metrics.read(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)
    assert "tandem evaluate" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_unwritable_folder_are_named(metrics, tmp_path):
    with pytest.raises(UserError, match=r"absent\.json: cannot be read"):
        Metrics.read(tmp_path / "absent.json")
    with pytest.raises(UserError, match="cannot be written"):
        metrics.write(tmp_path / "no" / "folder" / "metrics.json")


def test_a_failed_write_leaves_the_old_file(metrics, tmp_path):
    path = tmp_path / "metrics.json"
    metrics.write(path)
    before = path.read_text()
    (tmp_path / "metrics.json.unfinished").mkdir()
    with pytest.raises(UserError):
        Metrics().write(path)
    assert path.read_text() == before


def test_a_metric_is_measured_once(metrics):
    with pytest.raises(ValueError, match=r"popularity\.ndcg@10 was measured already"):
        metrics.add("popularity", {"ndcg@10": Estimate(0.9, 0.8, 1.0, 1)})
    assert metrics["popularity.ndcg@10"].value == 0.1


def test_a_what_may_hold_dots(metrics):
    assert list(metrics.of("ranking.rating")) == ["rmse"]
    assert metrics.of("ranking") == {}


def test_tables_show_what_was_measured_in_the_fixed_order(metrics):
    shown = markdown(metrics, columns=["ndcg@10", "coverage@10"])
    assert shown.splitlines() == [
        "| | ndcg@10 | coverage@10 |",
        "|---|---:|---:|",
        "| popularity | 0.100 [0.050, 0.150] | 0.020 |",
        "| recommender | 0.300 [0.250, 0.350] | - |",
    ]
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(table(metrics, columns=["ndcg@10"], title="models"))
    text = captured.get()
    assert text.index("popularity") < text.index("recommender")
    assert "0.300 [0.250, 0.350]" in text
    assert "rating" not in text


def test_cells_of_the_unknown():
    assert cell(None) == cell(Estimate(NAN, NAN, NAN, 0)) == "-"


def test_value_share_is_of_sums_not_of_queries():
    share = value_share(np.array([0.0, 8.0]), np.array([1.0, 9.0]), seed=0)
    assert share.value == pytest.approx(0.8)
