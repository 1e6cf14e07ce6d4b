"""A log and its windows on disk: arrays that are mapped, not read, and no pickle."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from interactions.errors import UserError
from interactions.log import EventLog, Labels
from interactions.split import Windows

FORMAT = 1
_ARRAYS = ("user", "item", "time", "chosen", "exposure")
_OPTIONAL = {"weighed": "weight", "with_propensities": "propensity"}
"""Arrays that a log may lack, by the key that says that it has them."""
_TABLES = ("event_table", "user_table", "item_table")


@dataclass(frozen=True)
class Stored:
    """What `save` wrote."""

    log: EventLog
    windows: Windows | None


def save(log: EventLog, folder: Path, *, windows: Windows | None = None) -> None:
    """Write the log, and its windows where given, as `folder`, which appears only when complete.

    Raises `UserError` where it cannot be written; what was there before then stays.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(log, windows, partial)
        _replace(folder, partial)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); choose a folder with rights and room"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: Path) -> Stored:
    """Return what `save` wrote, its arrays mapped from disk; `UserError` where it is damaged."""
    try:
        about = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']} instead of {FORMAT}")
        log = EventLog(
            **{name: _map(folder / f"{name}.npy") for name in _ARRAYS},
            **{name: _read_table(folder / f"{name}.arrow") for name in _TABLES},
            user_ids=_read_ids(folder / "user_ids.arrow"),
            item_ids=_read_ids(folder / "item_ids.arrow"),
            labels={
                label["task"]: Labels(
                    _map(folder / f"label_{place}_value.npy"),
                    _map(folder / f"label_{place}_known_at.npy"),
                    float("nan") if label["absent"] is None else label["absent"],
                )
                for place, label in enumerate(about["labels"])
            },
            has_times=about["has_times"],
            **{
                name: _map(folder / f"{name}.npy")
                for key, name in _OPTIONAL.items()
                if about.get(key)
            },
        )
        windows = None
        if about["split"] is not None:
            window, ends = _map(folder / "window.npy"), _map(folder / "window_ends.npy")
            windows = Windows(log, about["split"], window, ends)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the stored log in {folder} cannot be read ({reason}); delete it and start again"
        ) from error
    return Stored(log, windows)


def _write(log: EventLog, windows: Windows | None, folder: Path) -> None:
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(log, name), allow_pickle=False)
    for name in _TABLES:
        _write_table(getattr(log, name), folder / f"{name}.arrow")
    for name in ("user_ids", "item_ids"):
        ids = pa.array(getattr(log, name), pa.large_string())
        _write_table(pa.table({"id": ids}), folder / f"{name}.arrow")
    for place, label in enumerate(log.labels.values()):
        np.save(folder / f"label_{place}_value.npy", label.value, allow_pickle=False)
        np.save(folder / f"label_{place}_known_at.npy", label.known_at, allow_pickle=False)
    for name in _OPTIONAL.values():
        if getattr(log, name) is not None:
            np.save(folder / f"{name}.npy", getattr(log, name), allow_pickle=False)
    if windows is not None:
        np.save(folder / "window.npy", windows.window, allow_pickle=False)
        np.save(folder / "window_ends.npy", windows.ends, allow_pickle=False)
    about = {
        "format": FORMAT,
        "has_times": log.has_times,
        **{key: getattr(log, name) is not None for key, name in _OPTIONAL.items()},
        "labels": [
            # JSON has no NaN: null stands for it.
            {"task": task, "absent": None if np.isnan(label.absent) else label.absent}
            for task, label in log.labels.items()
        ],
        "split": None if windows is None else windows.kind,
    }
    (folder / "log.json").write_text(json.dumps(about, indent=2), encoding="utf-8")


def _replace(folder: Path, new: Path) -> None:
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _map(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _write_table(table: pa.Table, file: Path) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_table(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _read_ids(file: Path) -> np.ndarray:
    return _read_table(file)["id"].to_numpy().astype(object)
