"""MovieLens in all its published layouts, from a folder or from GroupLens, as one form of Parquet.

Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets (ACM TiiS 5(4), 2015), and the
READMEs at https://grouplens.org/datasets/movielens.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import requests

from interactions.errors import UserError
from interactions.reader import CsvLayout, read_file

OFFICIAL = "https://files.grouplens.org/datasets/movielens/"
STABLE = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m")
CHANGING = ("ml-latest", "ml-latest-small")
"""Republished from time to time; a checksum beside them is used where there is one."""

_RATING = ("user_id", "item_id", "rating", "timestamp")
# fmt: off
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime",
    "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance",
    "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_ITEM_100K = ("item_id", "title", "released", "video", "url", *_GENRES_100K)
_NO_GENRE = ("", "unknown", "(no genres listed)")


@dataclass(frozen=True)
class MovieLens:
    """A MovieLens data set in one form, whatever its layout was."""

    folder: Path
    """Holds events.parquet, items.parquet and, where users are described, users.parquet."""
    config: dict[str, Any]
    """The `data:` section of a configuration that reads it."""


@dataclass(frozen=True)
class _Layout:
    """The files of one published layout, and how they are written."""

    ratings: str
    movies: str
    users: str | None
    text: CsvLayout


@dataclass(frozen=True)
class _FoundLayout:
    layout: _Layout
    folder: Path


_DAT = CsvLayout(delimiter="::", encoding="latin-1", quote=None)
_LAYOUTS = (
    _Layout("u.data", "u.item", "u.user", CsvLayout(encoding="latin-1", quote=None)),
    _Layout("ratings.dat", "movies.dat", "users.dat", _DAT),  # 1M
    # 10M is written in UTF-8, unlike 1M.
    _Layout("ratings.dat", "movies.dat", None, CsvLayout(delimiter="::", quote=None)),
    _Layout("ratings.csv", "movies.csv", None, CsvLayout()),
)


def movielens(name_or_folder: str | Path, *, cache: Path, base_url: str = OFFICIAL) -> MovieLens:
    """Return a MovieLens data set, from a folder that holds it or downloaded by its name.

    Names are ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest and ml-latest-small. What is
    downloaded is checked against the MD5 published beside it, and kept in `cache`. Raises
    `UserError` where the name is unknown, the download fails or differs, or the folder has no known
    layout.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        return _normalise(folder, cache / f"{folder.name}-{key}")
    name = str(name_or_folder).lower()
    if name not in STABLE + CHANGING:
        raise UserError(
            f"MovieLens {str(name_or_folder)!r} is neither a folder nor one of "
            f"{', '.join(STABLE + CHANGING)}"
        )
    target = cache / name
    if (target / "events.parquet").exists():
        return _described(target)
    archive = _download(name, cache=cache, base_url=base_url)
    with tempfile.TemporaryDirectory(dir=cache) as unpacked:
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(unpacked)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f"{archive} cannot be unpacked ({error}); delete it and retry"
            ) from error
        return _normalise(Path(unpacked), target)


def _download(name: str, *, cache: Path, base_url: str) -> Path:
    url = f"{base_url.rstrip('/')}/{name}.zip"
    cache.mkdir(parents=True, exist_ok=True)
    published = _published_md5(f"{url}.md5")
    if published is None and name in STABLE:
        raise UserError(
            f"{url}.md5 does not exist, so {name} could not be checked; download and unzip it "
            "yourself and give its folder"
        )
    known = None if published is None else f"md5:{published}"
    try:
        return Path(pooch.retrieve(url, known, fname=f"{name}.zip", path=cache))
    except requests.RequestException as error:
        raise _no_download(url, error) from error
    except ValueError as error:  # pooch's word for a wrong checksum; it keeps no such file
        raise UserError(
            f"{url} differs from its published checksum {known}; retry, or give a folder"
        ) from error


def _published_md5(url: str) -> str | None:
    try:
        answer = requests.get(url, timeout=30)
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
    except requests.RequestException as error:
        raise _no_download(url, error) from error
    found = re.search(r"\b[0-9a-fA-F]{32}\b", answer.text)
    if found is None:
        raise UserError(f"{url} holds no MD5; download the data yourself and give its folder")
    return found[0].lower()


def _no_download(url: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"{url} cannot be downloaded ({reason}); check the network, or give a folder that holds it"
    )


def _normalise(source: Path, target: Path) -> MovieLens:
    found = _find_layout(source)
    layout, folder = found.layout, found.folder
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pq.write_table(_ratings(folder, layout), partial / "events.parquet")
    pq.write_table(_movies(folder, layout), partial / "items.parquet")
    if layout.users is not None:
        pq.write_table(_users(folder, layout), partial / "users.parquet")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return _described(target)


def _find_layout(source: Path) -> _FoundLayout:
    for layout in _LAYOUTS:
        names = [name for name in (layout.ratings, layout.movies, layout.users) if name]
        # Archives hold a folder, so the files may lie one below.
        for folder in [source, *sorted(path for path in source.iterdir() if path.is_dir())]:
            if all((folder / name).is_file() for name in names):
                return _FoundLayout(layout, folder)
    raise UserError(
        f"{source} holds no MovieLens layout; it needs ratings.csv and movies.csv, ratings.dat and "
        "movies.dat, or u.data, u.item and u.user"
    )


def _ratings(folder: Path, layout: _Layout) -> pa.Table:
    text = layout.text
    if layout.ratings == "u.data":
        text = CsvLayout(delimiter="\t", encoding=text.encoding, quote=None)
    table = _read(folder / layout.ratings, text, _RATING)
    try:
        rating, time = table["rating"].cast(pa.float64()), table["timestamp"].cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise UserError(
            f"MovieLens: {folder / layout.ratings} is damaged ({error}); download it again"
        ) from error
    return table.set_column(2, "rating", rating).set_column(3, "timestamp", time)


def _movies(folder: Path, layout: _Layout) -> pa.Table:
    if layout.movies == "u.item":
        bars = CsvLayout(delimiter="|", encoding="latin-1", quote=None)
        table = _read(folder / layout.movies, bars, _ITEM_100K)
        genres = _flagged(table, _GENRES_100K)
        table = table.select(["item_id", "title"]).append_column("genres", genres)
    else:
        table = _read(folder / layout.movies, layout.text, ("item_id", "title", "genres"))
    none = pc.is_in(table["genres"], value_set=pa.array(_NO_GENRE))
    genres = pc.if_else(none, pa.scalar(None, pa.string()), table["genres"])
    return table.set_column(2, "genres", genres)


def _flagged(table: pa.Table, names: Sequence[str]) -> pa.ChunkedArray:
    """Return the names of the columns that are 1, joined by bars, for each row."""
    absent = pa.scalar(None, pa.string())
    flags = [pc.if_else(pc.equal(table[name], "1"), name, absent) for name in names]
    return pc.binary_join_element_wise(*flags, "|", null_handling="skip")


def _users(folder: Path, layout: _Layout) -> pa.Table:
    if layout.users == "u.user":
        bars = CsvLayout(delimiter="|", encoding="latin-1", quote=None)
        return _read(folder / "u.user", bars, ("user_id", "age", "gender", "occupation", "zip"))
    assert layout.users is not None
    columns = ("user_id", "gender", "age", "occupation", "zip")
    return _read(folder / layout.users, layout.text, columns)


def _read(file: Path, text: CsvLayout, columns: tuple[str, ...]) -> pa.Table:
    # Where there is a header (the CSV layouts), its names are replaced by ours.
    header = file.suffix == ".csv"
    layout = CsvLayout(text.delimiter, None if header else columns, text.encoding, text.quote)
    table = read_file(file, layout=layout, what="MovieLens")
    if table is None or not table.num_rows:
        raise UserError(f"MovieLens: {file} is empty; download it again")
    return table.rename_columns(list(columns)) if header else table


def _described(folder: Path) -> MovieLens:
    config: dict[str, Any] = {
        "events": str(folder / "events.parquet"),
        "items": str(folder / "items.parquet"),
        "user_id": "user_id",
        "item_id": "item_id",
        "timestamp": "timestamp",
        "timestamp_unit": "seconds",
        "item_features": [
            {"name": "title", "kind": "text"},
            {"name": "genres", "kind": "categories", "separator": "|"},
        ],
    }
    if (folder / "users.parquet").exists():
        config["users"] = str(folder / "users.parquet")
        names = ("gender", "age", "occupation", "zip")
        config["user_features"] = [{"name": name, "kind": "categorical"} for name in names]
    return MovieLens(folder, config)
