"""Reading tables: CSV and Parquet, a file, a folder of shards or a glob, as one Arrow table."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from interactions.columns import as_strings
from interactions.errors import UserError

CSV_SUFFIXES = (".csv", ".tsv", ".dat", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
_READABLE = "CSV (.csv, .tsv, .dat, .txt, each also .gz) and Parquet (.parquet)"
# Arrow's parser splits at one character; longer delimiters become this one, which text never holds.
_ONE_DELIMITER = "\x1f"


@dataclass(frozen=True)
class CsvLayout:
    """How the text of a CSV file is to be understood."""

    delimiter: str = ","
    columns: tuple[str, ...] | None = None
    """Names of the columns where the file has no header line."""
    encoding: str = "utf8"
    quote: str | None = '"'
    """The quotation mark, or None where the file has none and `"` is an ordinary character."""


def read_table(
    paths: str | Path | Sequence[str | Path],
    *,
    base: Path | None = None,
    delimiter: str = ",",
    columns: tuple[str, ...] | None = None,
    only: Sequence[str] | None = None,
    strings: Sequence[str] = (),
    what: str = "events",
) -> pa.Table:
    """Return the rows of all the files that `paths` names, in the order of their names.

    `paths` is a file, a folder, a glob or several of these, relative to `base`. CSV columns come as
    strings, exactly as written, null where empty; `strings` names columns that come as strings from
    Parquet too. `only` names the columns wanted, all of which must exist. `what` names the table in
    errors. Raises `UserError` where a file or column is missing, or nothing is in them.
    """
    files = find_files(paths, base=base or Path(), what=what)
    layout = CsvLayout(delimiter=delimiter, columns=columns)
    tables = []
    for file in files:
        table = read_file(file, layout=layout, only=only, what=what)
        if table is not None:
            for name in set(strings) & set(table.column_names):
                place = table.column_names.index(name)
                table = table.set_column(place, name, as_strings(table[name]))
            tables.append(table)
    if not sum(table.num_rows for table in tables):
        raise UserError(f"{what}: {_named(files)} has no rows; give a file with data")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"{what}: the columns of {_named(files)} have different types ({_first_line(error)}); "
            "write them alike"
        ) from error


def read_file(
    file: Path, *, layout: CsvLayout, only: Sequence[str] | None = None, what: str = "events"
) -> pa.Table | None:
    """Return the rows of one CSV or Parquet file, or None where it holds not even a header.

    Raises `UserError` where a column of `only` is missing or the file cannot be parsed.
    """
    try:
        if file.stat().st_size == 0:  # a shard that nobody wrote to
            return None
        if file.suffix in PARQUET_SUFFIXES:
            return _read_parquet(file, only=only, what=what)
        return _read_csv(file, layout=layout, only=only, what=what)
    except (pa.ArrowInvalid, UnicodeDecodeError, EOFError, csv.Error) as error:
        raise UserError(
            f"{what}: {file} cannot be read ({_first_line(error)}); "
            "check its delimiter, its encoding (UTF-8) and that it is complete"
        ) from error
    except OSError as error:
        raise UserError(
            f"{what}: {file} cannot be read ({_first_line(error)}); check it and its rights"
        ) from error


def find_files(
    paths: str | Path | Sequence[str | Path], *, base: Path, what: str = "events"
) -> list[Path]:
    """Return the files that `paths` names, relative to `base`; `UserError` where there are none."""
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    return [file for path in several for file in _files_of(Path(path).expanduser(), base, what)]


def _files_of(given: Path, base: Path, what: str) -> list[Path]:
    path = base / given
    if path.is_dir():
        found = _shards(path.rglob("*"))
        if not found:
            raise UserError(f"{what}: folder {path} holds no file to read; {_READABLE} are read")
        return found
    if path.is_file():
        if not _is_readable(path):
            raise UserError(
                f"{what}: {path} has the unknown suffix {path.suffix!r}; {_READABLE} are read"
            )
        return [path]
    if any(character in str(given) for character in "*?["):
        # What is given is the pattern; brackets in the base folder's own name are not.
        root = Path(given.anchor) if given.is_absolute() else base
        found = _shards(root.glob(str(given.relative_to(given.anchor))))
        if found:
            return found
        raise UserError(f"{what}: nothing matches {path}; {_READABLE} are read")
    raise UserError(f"{what}: {path} does not exist; give a file, a folder or a glob")


def _shards(paths: Iterable[Path]) -> list[Path]:
    # Engines that write shards leave _SUCCESS and hidden checksums beside them.
    return sorted(
        path
        for path in paths
        if path.is_file() and _is_readable(path) and not path.name.startswith((".", "_"))
    )


def _is_readable(path: Path) -> bool:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix in CSV_SUFFIXES or path.suffix in PARQUET_SUFFIXES


def _read_parquet(file: Path, *, only: Sequence[str] | None, what: str) -> pa.Table:
    with pq.ParquetFile(file) as parquet:
        _need(only, parquet.schema_arrow.names, file=file, what=what)
        return parquet.read(columns=None if only is None else list(only))


def _read_csv(
    file: Path, *, layout: CsvLayout, only: Sequence[str] | None, what: str
) -> pa.Table | None:
    names = layout.columns or _header(file, layout)
    if not names:
        return None
    for name in names:
        if list(names).count(name) > 1:
            raise UserError(f"{what}: {file} has the column {name!r} twice; rename one")
    _need(only, names, file=file, what=what)
    delimiter = _delimiter(file, layout)
    source: io.BytesIO | pa.NativeFile
    if len(delimiter) > 1:
        content = _open(file).read()
        old, new = (text.encode(layout.encoding) for text in (delimiter, _ONE_DELIMITER))
        source = io.BytesIO(content.replace(old, new))
        delimiter = _ONE_DELIMITER
    else:
        source = pa.input_stream(str(file), compression="gzip" if file.suffix == ".gz" else None)
    return pa_csv.read_csv(
        source,
        read_options=pa_csv.ReadOptions(
            column_names=list(layout.columns) if layout.columns else None,
            encoding=layout.encoding,
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter,
            quote_char=layout.quote or False,
            newlines_in_values=layout.quote is not None,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=None if only is None else list(only),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _header(file: Path, layout: CsvLayout) -> list[str]:
    encoding = "utf-8-sig" if layout.encoding == "utf8" else layout.encoding
    with io.TextIOWrapper(_open(file), encoding=encoding, newline="") as text:
        delimiter = _delimiter(file, layout)
        if len(delimiter) > 1:
            return text.readline().rstrip("\r\n").split(delimiter)
        quoting = csv.QUOTE_NONE if layout.quote is None else csv.QUOTE_MINIMAL
        quote = layout.quote or None
        return next(csv.reader(text, delimiter=delimiter, quotechar=quote, quoting=quoting), [])


def _open(file: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _delimiter(file: Path, layout: CsvLayout) -> str:
    tabs = ".tsv" in file.suffixes[-2:]
    return "\t" if tabs and layout.delimiter == "," else layout.delimiter


def _need(only: Sequence[str] | None, names: Sequence[str], *, file: Path, what: str) -> None:
    for name in only or ():
        if name not in names:
            raise UserError(
                f"{what}: {file} has no column {name!r}; its columns are {', '.join(names)}"
            )


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
