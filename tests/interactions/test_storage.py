from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from interactions import storage
from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.split import TEST, split


@pytest.fixture
def log(folder):
    rows = [(f"ü{n % 5}", f"i{n % 7}", 1_500_000_000 + n, n % 5, f"d{n % 2}") for n in range(60)]
    names = ("user_id", "item_id", "timestamp", "rating", "device")
    columns = zip(names, map(list, zip(*rows, strict=True)), strict=True)
    events = folder.parquet("e.parquet", dict(columns))
    tasks = {
        "rating": {"kind": "regression", "column": "rating"},
        "high": {"kind": "binary", "column": "rating > 2"},
    }
    features = [{"name": "device", "kind": "categorical"}]
    return folder.load(events, tasks, event_features=features).log


@pytest.mark.parametrize("kind", ["time", "leave_last_out"])
def test_what_is_saved_comes_back_mapped_and_equal(log, tmp_path, kind):
    windows = split(log, SplitConfig(kind=kind))
    storage.save(log, tmp_path / "log", windows=windows)
    stored = storage.load(tmp_path / "log")
    again = stored.log
    for name in ("user_ids", "item_ids", "user", "item", "time", "chosen", "exposure", "offsets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(log, name))
    assert isinstance(again.time, np.memmap)
    assert again.event_table.equals(log.event_table)
    assert again.labels.keys() == log.labels.keys()
    for name, label in log.labels.items():
        np.testing.assert_array_equal(again.labels[name].value, label.value)
        np.testing.assert_array_equal(again.labels[name].at(log.time), label.at(log.time))
    assert stored.windows is not None
    assert stored.windows.describe() == windows.describe()
    np.testing.assert_array_equal(stored.windows.end(1), windows.end(1))
    np.testing.assert_array_equal(stored.windows.rows(TEST), windows.rows(TEST))


@pytest.mark.parametrize("name", ["weight", "propensity"])
def test_what_a_log_may_lack_comes_back(log, tmp_path, name):
    storage.save(log, tmp_path / "without")
    assert getattr(storage.load(tmp_path / "without").log, name) is None
    given = np.linspace(0, 1, len(log))
    storage.save(replace(log, **{name: given}), tmp_path / "log")
    again = getattr(storage.load(tmp_path / "log").log, name)
    np.testing.assert_array_equal(again, given)
    assert isinstance(again, np.memmap)


def test_saving_again_replaces_and_leaves_nothing_beside(log, tmp_path):
    storage.save(log, tmp_path / "log")
    storage.save(log, tmp_path / "log")
    assert storage.load(tmp_path / "log").windows is None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["log"]


def test_a_failed_save_loses_nothing_already_written(log, tmp_path, monkeypatch):
    storage.save(log, tmp_path / "log")

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(UserError, match=r"cannot be written \(.*No space left"):
        storage.save(log, tmp_path / "log")
    assert len(storage.load(tmp_path / "log").log) == len(log)


def test_only_what_can_be_mapped_is_on_disk(log, tmp_path):
    storage.save(log, tmp_path / "log")
    suffixes = {path.suffix for path in (tmp_path / "log").iterdir()}
    assert suffixes == {".npy", ".arrow", ".json"}
    for file in (tmp_path / "log").glob("*.npy"):
        np.load(file, allow_pickle=False)


@pytest.mark.parametrize("file", ["log.json", "time.npy", "user_ids.arrow", "label_0_value.npy"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_log_is_named_with_the_remedy(log, tmp_path, file, damage):
    storage.save(log, tmp_path / "log")
    path = tmp_path / "log" / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"stored log in .*delete it and start again"):
        storage.load(tmp_path / "log")
