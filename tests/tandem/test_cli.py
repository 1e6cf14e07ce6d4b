"""The commands that answer, and what they do without."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

WITHOUT_TENSORFLOW = """
import sys
from tandem.cli import main
sys.argv = ["tandem", *sys.argv[1:]]
try:
    main()
finally:
    print("tensorflow" in sys.modules or "tensorflow_serving" in sys.modules)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--help"], 0, "Two-stage recommendations"),
        (["fit", "--help"], 0, "The shortest config"),
        (["--version"], 0, "version"),
        (["fit", "missing.yaml", "--run", "run"], 2, "missing.yaml"),
    ],
)
def test_tensorflow_is_not_imported_for(tmp_path, arguments, status, says):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_recommend_asks_a_server_without_tensorflow(server):
    command = ["recommend", "--server", server.address, "--user", "u1", "-k", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "False"
    (answer,) = map(json.loads, lines)
    assert answer["user_id"] == "u1"
    assert len(answer["items"]) == 3
    assert set(answer["items"][0]["tasks"]) == {"retrieval", "rating", "purchase"}


def test_every_command_is_in_the_help(tandem):
    told = tandem("--help").out
    for command in ("demo", "fit", "evaluate", "export", "serve", "recommend", "batch"):
        assert command in told
    # no sentence is cut short
    assert not [line for line in told.partition("Commands:")[2].splitlines() if "..." in line]


def asked(tandem, server, *users, k=35):
    flags = [flag for user in users for flag in ("--user", user)]
    ended = tandem("recommend", "--server", server.address, *flags, "-k", k, "--json")
    assert ended.status == 0, ended
    return [
        [item["item_id"] for item in json.loads(line)["items"]] for line in ended.out.splitlines()
    ]


def events(finished):
    text = (finished.config.parent / "events.csv").read_text()
    return [line.split(",") for line in text.splitlines()[1:]]


def test_a_request_has_its_own_weights(server, tandem):
    command = ["recommend", "--server", server.address, "--user", "u1", "-k", 20, "--json"]
    tasks = json.loads(tandem(*command).out)["items"][0]["tasks"]
    alone = [flag for task in tasks for flag in ("--weight", f"{task}={int(task == 'rating')}")]
    items = json.loads(tandem(*command, *alone).out)["items"]
    ratings = [item["tasks"]["rating"] for item in items]
    assert ratings == sorted(ratings, reverse=True) and ratings[0] > ratings[-1]
    assert "rating" in tandem(*command, "--weight", "fame=1").error


def test_unknown_and_quiet_users_get_recommendations(finished, server, tandem):
    """A k above the catalogue gives the catalogue, less what the user has had."""
    known, quiet, nobody = asked(tandem, server, "u1", "quiet", "nobody")
    had = {row[1] for row in events(finished) if row[0] == "u1"}
    everything = {f"i{n}" for n in range(30)}
    assert had
    assert sorted(known) == sorted(everything - had)
    assert sorted(quiet) == sorted(everything)
    assert sorted(nobody) == sorted(everything)


def test_a_table_shows_the_tasks(server, tandem):
    ended = tandem("recommend", "--server", server.address, "--user", "u2", "-k", 4)
    assert ended.status == 0
    assert "Recommendations for u2" in ended.out
    assert all(task in ended.out for task in ("rating", "purchase"))


def test_batch_says_where_its_lists_are_and_answers_as_the_server(
    published, server, tandem, tmp_path
):
    users, out = tmp_path / "users.csv", tmp_path / "out"
    users.write_text("user_id\nu1\nquiet\nnobody\n")
    ended = tandem("batch", published.folder, "--users", users, "--out", out, "-k", 5)
    assert ended.status == 0, ended
    assert "3 users" in ended.out and str(out) in ended.out.replace("\n", "")
    rows = pq.read_table(out).to_pylist()
    for user, expected in zip(
        ("u1", "quiet", "nobody"), asked(tandem, server, "u1", "quiet", "nobody", k=5), strict=True
    ):
        mine = sorted((row for row in rows if row["user_id"] == user), key=lambda row: row["rank"])
        assert [row["item_id"] for row in mine] == expected


def test_export_says_where_the_bundle_is_and_what_comes_next(finished, exported, published):
    told = exported.output.replace("\n", "")
    assert published.folder == finished.folder / "bundle"
    assert "version 1" in told and str(published.folder) in told and "tandem serve" in told
    assert {file.name for file in published.folder.iterdir()} == {
        "manifest.json", "models.config", "batching.config", "monitoring.config",
        "docker-compose.yml", "retrieval", "ranking", "recommender",
    }  # fmt: skip
