import pyarrow as pa
import pytest

from interactions.errors import UserError
from interactions.reader import CsvLayout, read_file, read_table


def test_csv_ids_are_as_written(folder):
    name = folder.csv("e.csv", "user_id,item_id\n007,1.0\n8,\n")
    table = read_table(name, base=folder.path)
    assert table.to_pydict() == {"user_id": ["007", "8"], "item_id": ["1.0", None]}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".txt", ".dat"])
def test_csv_suffixes_and_quoted_text(folder, suffix):
    name = folder.csv("e" + suffix, 'id,title\n1,"Good, the ""Bad"" (1966)"\n2,"two\nlines"\n')
    table = read_table(name, base=folder.path)
    assert table["title"].to_pylist() == ['Good, the "Bad" (1966)', "two\nlines"]


def test_tsv_is_split_at_tabs_and_a_byte_order_mark_is_no_part_of_a_name(folder):
    (folder.path / "e.tsv.gz").write_bytes(b"")
    (folder.path / "e.tsv").write_bytes("\ufeffa\tb\n1\tx,y\n".encode())
    table = read_table("e.tsv", base=folder.path, only=("a", "b"))
    assert table.to_pydict() == {"a": ["1"], "b": ["x,y"]}


def test_headerless_file_gets_its_columns_and_long_delimiters_split(folder):
    folder.csv("r.dat", "1::31::2.5\n1::1029::3\n")
    table = read_table("r.dat", base=folder.path, delimiter="::", columns=("u", "i", "r"))
    assert table.to_pydict() == {"u": ["1", "1"], "i": ["31", "1029"], "r": ["2.5", "3"]}


def test_latin_1_and_quotes_that_mean_nothing(folder):
    (folder.path / "m.dat").write_bytes('1::Mis\xe9rables "Les\n'.encode("latin-1"))
    layout = CsvLayout(delimiter="::", columns=("i", "t"), encoding="latin-1", quote=None)
    table = read_file(folder.path / "m.dat", layout=layout)
    assert table is not None
    assert table["t"].to_pylist() == ['Misérables "Les']


def test_parquet_ids_become_decimal_strings(folder):
    columns = {"a": [1, 2], "b": pa.array([1.0, None]), "c": ["x", ""], "d": [0.5, 1.0]}
    name = folder.parquet("e.parquet", columns)
    table = read_table(name, base=folder.path, strings=("a", "b", "c"))
    assert table.to_pydict() == {
        "a": ["1", "2"],
        "b": ["1", None],
        "c": ["x", None],
        "d": [0.5, 1.0],
    }


def test_dictionary_columns_are_strings_too(folder):
    folder.parquet("e.parquet", {"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    table = read_table("e.parquet", base=folder.path, strings=("a",))
    assert table["a"].to_pylist() == ["x", "y", "x"]


def test_folder_glob_and_tuple_give_the_same_rows_in_the_order_of_names(folder):
    for shard in (2, 0, 1):
        folder.parquet(f"log/part-{shard}.parquet", {"a": [shard * 10, shard * 10 + 1]})
    (folder.path / "log/_SUCCESS").write_text("")
    (folder.path / "log/.part-0.parquet.crc").write_text("x")
    expected = [0, 1, 10, 11, 20, 21]
    names = tuple(f"log/part-{shard}.parquet" for shard in range(3))
    for paths in ("log", "log/*.parquet", "lo?/part-[0-2].parquet", names):
        assert read_table(paths, base=folder.path)["a"].to_pylist() == expected


def test_an_empty_shard_is_passed_over_but_not_an_empty_table(folder):
    (folder.path / "log").mkdir()
    folder.csv("log/a.csv", "a\n1\n")
    (folder.path / "log/b.csv").write_text("")
    assert read_table("log", base=folder.path).num_rows == 1
    for text in ("", "a,b\n"):
        (folder.path / "empty.csv").write_text(text)
        with pytest.raises(UserError, match=r"empty\.csv has no rows"):
            read_table("empty.csv", base=folder.path)


def test_missing_things_are_named_with_what_there_is(folder):
    folder.csv("e.csv", "userId,movieId\n1,2\n")
    with pytest.raises(UserError, match="no column 'user_id'; its columns are userId, movieId"):
        read_table("e.csv", base=folder.path, only=("user_id",))
    with pytest.raises(UserError, match=r"nothing\.csv does not exist"):
        read_table("nothing.csv", base=folder.path)
    with pytest.raises(UserError, match="nothing matches"):
        read_table("x*.csv", base=folder.path)
    (folder.path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no file to read"):
        read_table("bare", base=folder.path)
    (folder.path / "e.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"unknown suffix '\.xlsx'"):
        read_table("e.xlsx", base=folder.path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.parquet", b"PAR1 and no more"),
        ("bad.csv.gz", b"\x1f\x8b and no more"),
        ("bad.csv", b"a,b\n1,2\n1,2,3\n"),
        ("bad2.csv", b"a,b\n1,\xff\xfe\n"),
        ("twice.csv", b"a,a\n1,2\n"),
    ],
)
def test_damaged_files_give_one_line(folder, name, content):
    (folder.path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        read_table(name, base=folder.path)
    assert "\n" not in str(caught.value)


def test_shards_of_different_types_are_refused(folder):
    folder.parquet("log/a.parquet", {"a": [1]})
    folder.parquet("log/b.parquet", {"a": ["x"]})
    with pytest.raises(UserError, match="different types"):
        read_table("log", base=folder.path)
