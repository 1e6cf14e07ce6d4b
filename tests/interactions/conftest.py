import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interactions.config import DataConfig, TaskConfig
from interactions.loading import Loaded, load
from interactions.log import EventLog


class Folder:
    """A folder of small data files, and the log they make."""

    def __init__(self, path: Path):
        self.path = path

    def csv(self, name: str, text: str) -> str:
        """Write lines as a CSV file, gzipped where its name says so."""
        content = text.encode()
        (self.path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return name

    def parquet(self, name: str, columns: dict) -> str:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        return name

    def load(self, events: str, tasks: dict | None = None, **data) -> Loaded:
        config = DataConfig.model_validate({"events": events, **data})
        labelled = {name: TaskConfig.model_validate(task) for name, task in (tasks or {}).items()}
        return load(config, labelled, base=self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def make_log():
    """Make a log of (user, item, time) rows, which must come sorted by user and time."""

    def make(rows, *, chosen=None, users=None, items=None, has_times=True, labels=None) -> EventLog:
        user, item, time = (np.array(column) for column in zip(*rows, strict=True))
        empty = pa.table({})
        return EventLog(
            user_ids=np.array([f"u{n}" for n in range(users or user.max() + 1)], object),
            item_ids=np.array([f"i{n}" for n in range(items or item.max() + 1)], object),
            user=user.astype(np.int32),
            item=item.astype(np.int32),
            time=time.astype(np.int64),
            chosen=np.ones(len(rows), bool) if chosen is None else np.array(chosen, bool),
            exposure=np.ones(len(rows), bool),
            labels=labels or {},
            event_table=empty,
            user_table=empty,
            item_table=empty,
            has_times=has_times,
        )

    return make
