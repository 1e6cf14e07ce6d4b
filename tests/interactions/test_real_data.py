from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from interactions.config import DataConfig, SplitConfig, TaskConfig
from interactions.histories import Histories
from interactions.loading import load
from interactions.split import RETRIEVAL, TEST, VALIDATION, split

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "../shared/data"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the shared data is not at ../shared/data"
)


def loaded(name: str):
    file = ROOT / "configs" / f"{name}.yaml"
    config = yaml.safe_load(file.read_text())
    tasks = {task: TaskConfig.model_validate(value) for task, value in config["tasks"].items()}
    result = load(DataConfig.model_validate(config["data"]), tasks, base=file.parent)
    return result, split(result.log, SplitConfig.model_validate(config["split"]))


def test_movielens_by_leaving_the_last_out():
    result, windows = loaded("movielens-latest-small")
    log = result.log
    assert (result.report.read, result.report.kept) == (100_004, 100_004)
    assert (len(log.user_ids), len(log.item_ids)) == (671, 9_125)
    # Titles with commas and quotes come through whole.
    titles = log.item_table["title"].to_pylist()
    assert "American President, The (1995)" in titles
    assert (np.bincount(log.user[windows.rows(TEST)], minlength=671) == 1).all()
    assert (np.bincount(log.user[windows.rows(VALIDATION)], minlength=671) == 1).all()
    dates = log.time.astype("datetime64[us]").astype("datetime64[Y]").astype(int) + 1970
    assert (dates.min(), dates.max()) == (1995, 2016)


def test_amazon_by_time_without_its_repetitions():
    result, windows = loaded("amazon-electronics")
    log = result.log
    raw = pq.read_table(DATA / "amazon-electronics/events.parquet")
    distinct = raw.group_by(raw.column_names).aggregate([]).num_rows
    assert len(log) == distinct == result.report.kept
    assert sum(result.report.dropped.values()) == raw.num_rows - distinct
    assert "milliseconds" in result.report.time_unit
    assert log.item_table["price"].null_count == 1_826
    last_training = log.time[windows.window == RETRIEVAL].max()
    assert last_training < windows.end(RETRIEVAL) <= log.time[windows.window > RETRIEVAL].min()
    # An item reviewed again is seen, but counts once.
    rows = windows.rows(TEST)
    seen = Histories.of(log).seen(rows)
    query = np.repeat(np.arange(len(rows)), np.diff(seen.offsets))
    assert len(np.unique(np.stack([query, seen.items]), axis=1).T) == len(seen.items)


def test_completejourney_keeps_its_baskets_apart():
    result, _ = loaded("completejourney")
    log = result.log
    assert (len(log), result.report.dropped) == (75_000, {})
    assert result.report.items_without_row == 5
    many = log.labels["multiple"].value
    assert set(np.unique(many)) == {0, 1}
    known = [age is not None for age in log.user_table["age"].to_pylist()]
    assert sum(known) == 801
    # The items of one basket do not explain each other.
    history = Histories.of(log).before(log.user, log.time, length=1)
    real = history.count > 0
    assert (history.times[real, 0] < log.time[real]).all()
