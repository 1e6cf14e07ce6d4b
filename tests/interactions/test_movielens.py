import functools
import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from interactions.config import DataConfig, TaskConfig
from interactions.errors import UserError
from interactions.loading import load
from interactions.movielens import movielens

TITLES = ["Misérables, Les (1995)", 'Toy "Story" (1995)']
RATINGS = [
    ("1", "10", "5", "881250949"),
    ("1", "20", "3", "881250950"),
    ("2", "10", "4", "881250949"),
]


def write(folder: Path, layout: str) -> Path:
    """Write the same little data set in one of the published layouts."""
    folder.mkdir(parents=True, exist_ok=True)

    def put(name: str, rows, delimiter: str, encoding: str = "latin-1", header: str = "") -> None:
        lines = [header] if header else []
        text = "\n".join([*lines, *(delimiter.join(row) for row in rows)]) + "\n"
        (folder / name).write_bytes(text.encode(encoding))

    drama, both = "Drama", "Animation|Comedy"
    if layout == "100k":
        flags = [["0"] * 19, ["0"] * 19]
        flags[0][8] = flags[1][3] = flags[1][5] = "1"
        movies = [
            [item, title, "01-Jan-1995", "", "http://x", *flag]
            for item, title, flag in zip(("10", "20"), TITLES, flags, strict=True)
        ]
        put("u.data", RATINGS, "\t")
        put("u.item", movies, "|")
        put(
            "u.user", [("1", "24", "M", "technician", "08511"), ("2", "53", "F", "other", "9")], "|"
        )
    elif layout in ("1m", "10m"):
        encoding = "latin-1" if layout == "1m" else "utf8"
        put("ratings.dat", RATINGS, "::")
        put("movies.dat", [("10", TITLES[0], drama), ("20", TITLES[1], both)], "::", encoding)
        if layout == "1m":
            put("users.dat", [("1", "M", "25", "3", "08511"), ("2", "F", "1", "10", "9")], "::")
    else:
        quoted = [f'"{title.replace(chr(34), chr(34) * 2)}"' for title in TITLES]
        put("ratings.csv", RATINGS, ",", "utf8", "userId,movieId,rating,timestamp")
        movies = [("10", quoted[0], drama), ("20", quoted[1], both)]
        put("movies.csv", movies, ",", "utf8", "movieId,title,genres")
    return folder


@pytest.mark.parametrize("layout", ["100k", "1m", "10m", "csv"])
def test_every_layout_gives_the_same_log(tmp_path, layout):
    data = movielens(write(tmp_path / "given", layout), cache=tmp_path / "cache")
    task = TaskConfig(kind="regression", column="rating")
    loaded = load(DataConfig.model_validate(data.config), {"rating": task}, base=tmp_path)
    log = loaded.log
    assert log.user_ids[log.user].tolist() == ["1", "1", "2"]
    assert log.item_ids[log.item].tolist() == ["10", "20", "10"]
    assert log.labels["rating"].value.tolist() == [5, 3, 4]
    assert log.time[0] == 881250949 * 1_000_000
    assert log.item_table.to_pylist() == [
        {"title": TITLES[0], "genres": "Drama"},
        {"title": TITLES[1], "genres": "Animation|Comedy"},
    ]
    if layout in ("100k", "1m"):
        assert log.user_table["zip"].to_pylist() == ["08511", "9"]
        assert log.user_table["gender"].to_pylist() == ["M", "F"]
    assert not loaded.report.dropped


@pytest.fixture
def site(tmp_path):
    """Serve a folder over loopback, as GroupLens serves its archives."""
    root = tmp_path / "site"
    root.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def publish(root: Path, name: str, layout: str, *, md5: str | None = "right") -> None:
    folder = write(root.parent / "unzipped" / name, layout)
    with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{name}/{file.name}")
    digest = hashlib.md5((root / f"{name}.zip").read_bytes()).hexdigest()
    if md5 is not None:
        text = f"MD5 ({name}.zip) = {digest if md5 == 'right' else '0' * 32}\n"
        (root / f"{name}.zip.md5").write_text(text)


def test_a_download_is_checked_and_kept(tmp_path, site):
    root, url = site
    publish(root, "ml-1m", "1m")
    first = movielens("ml-1m", cache=tmp_path / "cache", base_url=url)
    assert (first.folder / "events.parquet").exists()
    for file in root.iterdir():
        file.unlink()
    assert movielens("ml-1m", cache=tmp_path / "cache", base_url=url) == first


def test_a_wrong_checksum_is_refused_and_not_kept(tmp_path, site):
    root, url = site
    publish(root, "ml-1m", "1m", md5="wrong")
    with pytest.raises(UserError, match="differs from its published checksum"):
        movielens("ml-1m", cache=tmp_path / "cache", base_url=url)
    assert not list((tmp_path / "cache").iterdir())


def test_a_stable_set_without_checksum_is_refused_and_a_changing_one_is_not(tmp_path, site):
    root, url = site
    publish(root, "ml-25m", "csv", md5=None)
    publish(root, "ml-latest-small", "csv", md5=None)
    with pytest.raises(UserError, match=r"ml-25m\.zip\.md5 does not exist"):
        movielens("ml-25m", cache=tmp_path / "cache", base_url=url)
    assert movielens("ml-latest-small", cache=tmp_path / "cache", base_url=url).config["items"]


def test_what_is_not_there_is_named_with_a_remedy(tmp_path, site):
    root, url = site
    publish(root, "ml-20m", "csv")
    (root / "ml-20m.zip").unlink()
    with pytest.raises(UserError, match=r"cannot be downloaded.*give a folder"):
        movielens("ml-20m", cache=tmp_path / "cache", base_url=url)
    with pytest.raises(UserError, match="neither a folder nor one of ml-100k"):
        movielens("ml-2m", cache=tmp_path / "cache")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no MovieLens layout"):
        movielens(tmp_path / "bare", cache=tmp_path / "cache")
    damaged = write(tmp_path / "damaged", "1m")
    (damaged / "ratings.dat").write_text("1::10::five::881250949\n")
    with pytest.raises(UserError, match="damaged"):
        movielens(damaged, cache=tmp_path / "cache")
