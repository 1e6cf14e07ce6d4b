"""The user's mistakes: one clear line and status 2, and nothing that was written is lost."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def refused(write_data, tandem, tmp_path):
    """Fit on data that `spoil(folder)` has changed; return the one line that says why not."""

    def refused(spoil=lambda folder: None, **sections):
        config = write_data(tmp_path / "data", **sections)
        spoil(tmp_path / "data")
        return tandem("fit", config, "--run", tmp_path / "run").error

    return refused


@pytest.fixture
def bundle(published, tmp_path):
    """A copy of the bundle to be damaged."""
    return Path(shutil.copytree(published.folder, tmp_path / "bundle"))


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run to be damaged."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def users(tmp_path):
    file = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": ["u1", "quiet", "nobody"]}), file)
    return file


def keep_lines(condition):
    def spoil(folder):
        file = folder / "events.csv"
        header, *rows = file.read_text().splitlines()
        kept = [row for row in rows if condition(row.split(","))]
        file.write_text("\n".join([header, *kept, ""]))

    return spoil


def test_a_missing_column_is_named_with_those_there_are(refused):
    error = refused(data={"events": "events.csv", "user_id": "customer"})
    assert "'customer'" in error and "user_id, item_id, timestamp" in error


def test_a_missing_file_is_named(refused, tmp_path):
    error = refused(data={"events": "sales.csv"})
    assert str(tmp_path / "data" / "sales.csv") in error and "does not exist" in error


@pytest.mark.parametrize("content", ["", "user_id,item_id,timestamp,rating\n"])
def test_an_empty_file_is_named(refused, content):
    error = refused(lambda folder: (folder / "events.csv").write_text(content))
    assert "events.csv has no rows" in error


def test_an_unknown_key_is_named(refused):
    error = refused(retreival={})
    assert "config.yaml: retreival: unknown key" in error and "retrieval" in error


def test_a_label_column_of_text_is_named_with_its_first_text(refused):
    error = refused(
        tasks={"retrieval": {}, "rating": {"kind": "regression", "column": "device"}},
    )
    assert "'device'" in error and "is no number" in error and "'rating'" in error


def weighed(condition, otherwise):
    """A column `counts`: 1 where `condition(row)` holds."""

    def spoil(folder):
        header, *rows = (folder / "events.csv").read_text().splitlines()
        lines = [f"{row},{1 if condition(row.split(',')) else otherwise}" for row in rows]
        (folder / "events.csv").write_text("\n".join([f"{header},counts", *lines, ""]))

    return spoil


def test_a_negative_weight_of_an_event_is_named_with_its_column(refused):
    data = {"events": "events.csv", "weight": "counts"}
    error = refused(weighed(lambda row: row[0] != "u7", -3), data=data)
    assert "'counts' holds -3 on" in error and "data.weight needs a number of at least 0" in error


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (0, "holds 0 on"),
        (1e-200, "holds 1e-200 on"),
        (1.5, "holds 1.5 on"),
        ("", "is empty on every exposure"),
    ],
)
def test_impossible_propensities_are_named_with_their_column(refused, otherwise, said):
    data = {"events": "events.csv", "propensity": "counts"}
    nobody = otherwise == ""
    error = refused(weighed(lambda row: row[0] != "u7" and not nobody, otherwise), data=data)
    assert (
        f"'counts' {said}" in error
        and "data.propensity needs, for exposures, a probability" in error
    )


def test_a_window_in_which_nothing_counts_is_named(refused):
    data = {"events": "events.csv", "weight": "counts"}
    error = refused(weighed(lambda row: row[2] > "1600900000", 0), data=data)
    assert "'counts' is 0 for every chosen event of the retrieval window" in error


@pytest.mark.parametrize("weight", [-1, -0.01])
def test_a_negative_weight_of_a_task_is_named(refused, weight):
    error = refused(
        tasks={"retrieval": {}, "bought": {"kind": "binary", "column": "bought", "weight": weight}}
    )
    assert "tasks.bought.weight" in error and str(weight) in error


def test_a_retrieval_task_of_weight_0_is_refused(refused):
    assert "tasks.retrieval.weight is 0" in refused(tasks={"retrieval": {"weight": 0}})


def test_a_negative_weight_of_the_order_is_named(refused):
    error = refused(ranking={"order": {"retrieval": 1.0, "bought": -2.0}})
    assert "-2.0" in error and "at least 0" in error


@pytest.mark.parametrize("order", [{}, {"retrieval": 0.0, "bought": 0.0}])
def test_an_order_of_nothing_is_refused(refused, order):
    assert "orders nothing" in refused(ranking={"order": order})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "section",
    [
        lambda value: {"ranking": {"order": {"retrieval": value}}},
        lambda value: {"ranking": {"objective": {"at_least": {"bought": value}}}},
        lambda value: {"tasks": {"retrieval": {"weight": value}}},
    ],
)
def test_what_is_no_finite_number_is_refused(refused, section, value):
    error = refused(**section(value))
    assert str(value) in error and ("finite" in error or "at least" in error or "greater" in error)


def test_equal_timestamps_are_refused_with_a_way_out(refused):
    def spoil(folder):
        rows = [line.split(",") for line in (folder / "events.csv").read_text().splitlines()[1:]]
        lines = [f"{row[0]},{row[1]},1600000000" for row in rows]
        (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]))

    error = refused(spoil)
    assert "timestamps are equal" in error and "leave_last_out" in error


def test_one_user_is_refused_by_name(refused):
    error = refused(keep_lines(lambda row: row[0] == "u7"))
    assert "'u7'" in error and "data.user_id" in error


def test_a_log_too_short_to_split_is_refused(refused):
    error = refused(keep_lines(lambda row: row[0] in ("u1", "u2") and row[2] < "1600100000"))
    assert "window is empty" in error and "too few" in error


def test_a_window_of_nothing_but_repetitions_is_refused(refused):
    def spoil(folder):
        days = range(1_600_000_000, 1_600_000_000 + 40 * 86_400, 86_400)
        rows = [f"u{n % 2},i{n % 3},{day}" for n, day in enumerate(days)]
        (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))

    error = refused(spoil)
    assert "the ranking window has only events of items that their users had chosen" in error
    assert "repeats: keep" in error


def test_features_of_items_without_an_items_file_are_refused(refused):
    error = refused(
        data={"events": "events.csv", "item_features": [{"name": "title", "kind": "text"}]}
    )
    assert "title" in error and "data.items" in error


@pytest.mark.parametrize("folder", ["file/run", "file", "/proc/run"])
@pytest.mark.parametrize("command", ["fit", "demo"])
def test_a_run_folder_that_cannot_be_written_is_named(
    write_data, tandem, tmp_path, folder, command
):
    (tmp_path / "file").write_text("mine")
    arguments = [write_data(tmp_path / "data")] if command == "fit" else ["--preset", "seed"]
    error = tandem(command, *arguments, "--run", tmp_path / folder).error
    assert folder in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_folder_that_is_no_run_is_named(tandem, tmp_path, command):
    error = tandem(command, tmp_path).error
    assert str(tmp_path) in error and "tandem fit" in error


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("command", "stage", "pattern"),
    [
        ("evaluate", "retriever", "ckpt-*.data-*"),
        ("evaluate", "ranker", "ckpt-*.index"),
        ("export", "refit/retriever", "ckpt-*.index"),
        ("export", "refit/ranker", "ckpt-*.data-*"),
    ],
)
def test_a_corrupt_checkpoint_is_named_with_a_remedy(run, tandem, command, stage, pattern):
    metrics = (run / "metrics.json").read_bytes()
    for file in (run / stage).rglob(pattern):
        halve(file)
    error = tandem(command, run).error
    assert f"{run / stage}/" in error
    assert f"remove {run / stage} to train it anew" in error
    assert (run / "metrics.json").read_bytes() == metrics


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ("choices.json", "choices.json"),
        ("data/item.npy", "data"),
        ("features/retrieval_window/items/encoders.json", "features/retrieval_window/items"),
    ],
)
def test_other_damage_to_a_run_is_named(run, tandem, damaged, says):
    halve(run / damaged)
    assert str(run / says) in tandem("evaluate", run).error


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damaged", ["recommender/1/variables/variables.data-00000-of-00001", "manifest.json"]
)
def test_a_corrupt_bundle_is_neither_served_nor_used_for_a_batch(
    bundle, users, tandem, tmp_path, damaged
):
    flip(bundle / damaged)
    for command in (
        ("serve", bundle, "--grpc-port", "0"),
        ("batch", bundle, "--users", users, "--out", tmp_path / "out", "-k", "3"),
    ):
        error = tandem(*command).error
        assert str(bundle / damaged) in error and "export the bundle again" in error
    assert not (tmp_path / "out").exists()


def test_a_taken_port_is_named(published, tandem):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        error = tandem("serve", published.folder, "--grpc-port", port).error
    assert f"127.0.0.1:{port}" in error and "--grpc-port" in error


def test_a_server_that_is_not_there_is_named(tandem):
    with socket.socket() as holder:  # bound, but not listening
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        error = tandem("recommend", "--server", address, "--user", "u1").error
    assert address in error and "tandem serve" in error


def test_an_address_that_is_none_is_named(tandem):
    assert "HOST:PORT" in tandem("recommend", "--server", "nowhere", "--user", "u1").error


def test_a_k_above_what_was_exported_is_refused(published, server, users, tandem, tmp_path):
    error = tandem("recommend", "--server", server.address, "--user", "u1", "-k", 36).error
    assert "36" in error and "max_k=35" in error
    out = tmp_path / "out"
    error = tandem("batch", published.folder, "--users", users, "--out", out, "-k", 36).error
    assert "36" in error and "max_k=35" in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recommend", "--user", "u1", "-k", "0"], "-k"),
        (["recommend"], "--user"),
        (["fit"], "CONFIG"),
        (["fitt"], "fitt"),
        (["fit", "config.yaml", "--rum", "x"], "--rum"),
    ],
)
def test_a_misspelt_command_is_one_line_too(tandem, arguments, says):
    assert says in tandem(*arguments).error


def test_our_own_mistakes_end_with_status_1_in_one_line(tandem, monkeypatch, tmp_path):
    def broken(_):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("tandem.config.load_config", broken)
    monkeypatch.delenv("TANDEM_DEBUG", raising=False)
    ended = tandem("fit", "config.yaml", "--run", tmp_path)
    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert "ZeroDivisionError: oh no" in ended.err


def test_as_a_process_a_mistake_is_one_line_and_status_2(tmp_path):
    """What libraries write to stderr while they load would be seen here."""
    command = [str(Path(sys.executable).parent / "tandem"), "serve", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(tmp_path) in done.stderr
