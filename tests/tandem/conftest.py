"""Tiny logs, a command line in this process, and one finished run that the tests share."""

import io
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

USERS, ITEMS, ROWS = 60, 24, 800

SMALL = {
    "features": {"text_buckets": 64},
    "retrieval": {
        "embedding_dim": 8, "feature_dim": 4, "hidden_dim": 8, "history": 6,
        "schedule": {"max_epochs": 1},
    },
    "ranking": {
        "candidates": 40, "negatives": 6, "embedding_dim": 8, "feature_dim": 4, "cross_rank": 4,
        "tower_dims": [8],
        "history": 6, "neighbours": 4, "schedule": {"max_epochs": 1},
    },
    "export": {"max_k": 35, "max_batch": 4, "parity_users": 8},
}  # fmt: skip


def write_events(folder):
    """60 users who mostly choose the items of their own group; half of the rows have a rating."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, USERS, ROWS)
    item = np.where(
        rng.random(ROWS) < 0.8,
        rng.integers(0, ITEMS // 4, ROWS) * 4 + user % 4,
        rng.integers(0, ITEMS, ROWS),
    )
    time = 1_600_000_000 + np.sort(rng.integers(0, 10**6, ROWS))
    rating = np.where(rng.random(ROWS) < 0.5, (3 + (item % 4 == user % 4)).astype(str), "")
    device = rng.choice(["phone", "desk"], ROWS)
    rows = zip(user, item, time, rating, rng.integers(0, 2, ROWS), device, strict=True)
    lines = [f"u{u},i{i},{t},{r},{b},{d}" for u, i, t, r, b, d in rows]
    (folder / "events.csv").write_text(
        "\n".join(["user_id,item_id,timestamp,rating,bought,device", *lines, ""])
    )


def write_items(folder):
    """Without the log's last two items, and with six that nobody chose."""
    lines = [f"i{n},thing {n % 4} of kind {n % 3}" for n in range(ITEMS + 6)]
    (folder / "items.csv").write_text(
        "\n".join(["item_id,title", *lines[: ITEMS - 2], *lines[ITEMS:], ""])
    )


def write_users(folder):
    """With one user who has done nothing yet."""
    lines = [f"u{n},{'north' if n % 2 else 'south'}" for n in range(USERS)]
    (folder / "users.csv").write_text("\n".join(["user_id,region", *lines, "quiet,north", ""]))


@pytest.fixture(scope="session")
def write_data():
    """Write events.csv, items.csv, users.csv and config.yaml into a folder; return the config.

    Keyword arguments are sections of the config that replace the small ones.
    """

    def write(folder, **sections):
        folder.mkdir(exist_ok=True, parents=True)
        write_events(folder)
        write_items(folder)
        write_users(folder)
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump({"data": {"events": "events.csv"}} | SMALL | sections))
        return file

    return write


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def error(self):
        """The one line on stderr of a command that ended with status 2."""
        assert self.status == 2, self
        assert self.err.startswith("error: ") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").strip()


@pytest.fixture
def tandem(capsys, monkeypatch):
    """Run a command in this process, as the entry point does."""
    from tandem.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tandem", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Ended(ended.value.code, told.out, told.err)

    return run


@dataclass(frozen=True)
class Finished:
    """A run, and what it told while it was made."""

    folder: object
    config: object
    told: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory, write_data):
    """A run with all kinds of features and tasks and a refit; not to be changed."""
    from tandem.config import load_config
    from tandem.fit import fit

    folder = tmp_path_factory.mktemp("finished")
    config = write_data(
        folder / "data",
        data={
            "events": "events.csv",
            "items": "items.csv",
            "users": "users.csv",
            "item_features": [{"name": "title", "kind": "text"}],
            "user_features": [{"name": "region", "kind": "categorical"}],
            "event_features": [{"name": "device", "kind": "categorical"}],
        },
        tasks={
            "retrieval": {},
            "rating": {"weight": 0.5, "kind": "regression", "column": "rating"},
            "purchase": {"kind": "binary", "column": "bought"},
            "unused": {"weight": 0, "kind": "regression", "column": "rating"},
        },
        refit="all",
    )
    told = io.StringIO()
    fit(load_config(config), run=folder / "run", console=Console(file=told, width=200))
    return Finished(folder / "run", config, told.getvalue())


@pytest.fixture(scope="session")
def exported(finished):
    """What `tandem export` of the finished run said."""
    from tandem.cli import cli

    return CliRunner().invoke(cli, ["export", str(finished.folder)])


@pytest.fixture(scope="session")
def published(finished, exported):
    """The bundle of the finished run; not to be changed."""
    from export.manifest import read_bundle

    assert exported.exit_code == 0, exported
    return read_bundle(finished.folder / "bundle")


@pytest.fixture(scope="session")
def server(published):
    """A running server of the bundle; not to be stopped."""
    from serving.server import serve

    with serve(published.folder, grpc_port=0) as running:
        yield running
