import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import batch.local
from batch.local import batch_recommend
from export.system import recommend
from interactions.errors import UserError

K = 4


@pytest.fixture
def users(trained_system, tmp_path):
    """A Parquet file of everyone and a user nobody knows, in several row groups."""
    file = tmp_path / "users.parquet"
    ids = [*trained_system.log.user_ids, "nobody"]
    pq.write_table(pa.table({"age": range(len(ids)), "user_id": ids}), file, row_group_size=17)
    return file


@pytest.fixture
def write(exported_bundle, users, tmp_path):
    """Run the batch with other arguments where given."""

    def write(*, users_file=users, out=tmp_path / "out", k=K, chunk=20):
        return batch_recommend(exported_bundle.folder, users_file, out, k=k, chunk=chunk)

    return write


def rows(folder):
    shards = sorted(folder.glob("part-*.parquet"))
    return pa.concat_tables(pq.read_table(shard) for shard in shards).to_pydict()


def test_batch_gives_the_python_models_lists(trained_system, write):
    written = write()
    assert (written.users, written.shards, written.resumed) == (61, 4, 0)
    ids = [*trained_system.log.user_ids, "nobody"]
    truth = recommend(trained_system, ids, k=K)
    user, place = np.nonzero(truth.item >= 0)
    found = rows(written.folder)
    assert found["user_id"] == [ids[row] for row in user]
    assert found["rank"] == (place + 1).tolist()
    assert found["item_id"] == trained_system.log.item_ids[truth.item[user, place]].tolist()
    for name, values in {
        "score": truth.score, "retrieval_score": truth.retrieval_score, **truth.tasks
    }.items():  # fmt: skip
        np.testing.assert_allclose(found[name], values[user, place], rtol=1e-4, atol=1e-4)
    assert (written.folder / "_SUCCESS").exists()
    assert not list(written.folder.glob(".*"))


def test_shards_hold_as_many_users_as_asked_for(write):
    folder = write(chunk=20).folder
    shards = sorted(folder.glob("part-*.parquet"))
    assert [shard.name for shard in shards] == [f"part-0000{n}.parquet" for n in range(4)]
    assert [len(set(pq.read_table(s)["user_id"].to_pylist())) for s in shards] == [20, 20, 20, 1]


def test_a_stopped_batch_goes_on_with_the_missing_shard(write, tmp_path, monkeypatch):
    real, written = pq.write_table, []

    def stop_at_third(table, path):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)
        real(table, path)

    whole = rows(write(out=tmp_path / "whole").folder)
    with monkeypatch.context() as patch:
        patch.setattr(batch.local.pq, "write_table", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            write()
    out = tmp_path / "out"
    assert not (out / "_SUCCESS").exists()
    before = {shard: shard.stat().st_mtime_ns for shard in out.glob("part-*")}
    again = write()
    assert (again.resumed, again.shards) == (2, 4)
    assert all(shard.stat().st_mtime_ns == time for shard, time in before.items())
    assert rows(out) == whole
    assert write().resumed == 4


def test_another_job_is_refused_in_a_folder_that_holds_one(write, users, tmp_path):
    write()
    with pytest.raises(UserError, match=r"its k was 4, now it is 3"):
        write(k=3)
    with pytest.raises(UserError, match="its chunk was 20"):
        write(chunk=10)
    pq.write_table(pa.table({"user_id": ["one"]}), users)
    with pytest.raises(UserError, match="its users file"):
        write()
    job = json.loads((tmp_path / "out" / "_batch.json").read_text())
    assert job["k"] == 4


def test_csv_gives_what_parquet_gives(write, users, tmp_path):
    file = tmp_path / "users.csv"
    pa_csv.write_csv(pq.read_table(users), file)
    expected = rows(write().folder)
    assert rows(write(users_file=file, out=tmp_path / "from_csv").folder) == expected


def test_ids_are_strings_whatever_the_column_is(write, tmp_path):
    file = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"user_id": [7, 8]}), file)
    assert set(rows(write(users_file=file).folder)["user_id"]) == {"7", "8"}
    (tmp_path / "zeros.csv").write_text("user_id\n007\n")
    found = rows(write(users_file=tmp_path / "zeros.csv", out=tmp_path / "zeros").folder)
    assert set(found["user_id"]) == {"007"}


@pytest.mark.parametrize("k", [0, -1, 11])
def test_an_impossible_k_is_refused(write, tmp_path, k):
    with pytest.raises(UserError, match=rf"k={k} is not between 1 and max_k=10"):
        write(k=k)
    assert not (tmp_path / "out").exists()


def test_files_of_users_that_cannot_be_used_are_refused_by_name(write, tmp_path, monkeypatch):
    monkeypatch.setattr(batch.local, "Answerer", None)  # and before any model is loaded
    cases = {
        "missing.parquet": None,
        "text.parquet": "no parquet",
        "other.csv": "id\n1\n",
        "gap.csv": "user_id,x\na,1\n,2\n",
    }
    says = ["cannot be read", "cannot be read", "no column 'user_id', only id", "row 2 has no"]
    for (name, content), text in zip(cases.items(), says, strict=True):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=rf"{name}.*{text}"):
            write(users_file=tmp_path / name, out=tmp_path / f"out of {name}")


def test_a_folder_with_something_else_is_refused(write, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty"):
        write()


def test_no_users_is_an_empty_batch(write, tmp_path):
    file = tmp_path / "none.parquet"
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), file)
    written = write(users_file=file)
    assert (written.users, written.shards) == (0, 0)
    assert (written.folder / "_SUCCESS").exists()
