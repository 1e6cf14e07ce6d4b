import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interactions.errors import UserError
from tandem.forgotten import Forgotten, read_users, remember


def test_users_are_read_from_text_csv_and_parquet(tmp_path):
    (tmp_path / "a.txt").write_text("u1\nu 2\n\n")
    (tmp_path / "b.csv").write_text("user_id,why\nu1,asked\nu 2,asked\n")
    pq.write_table(pa.table({"user_id": ["u1", "u 2", None]}), tmp_path / "c.parquet")
    for name in ("a.txt", "b.csv", "c.parquet"):
        assert read_users(tmp_path / name) == ["u1", "u 2"]


@pytest.mark.parametrize(("name", "content"), [("a.txt", "\n"), ("b.csv", "id\nu1\n")])
def test_a_file_that_names_nobody_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="--forget-users"):
        read_users(tmp_path / name)


def test_who_was_forgotten_stays_so(tmp_path):
    remember(tmp_path, ["u1"])
    remember(tmp_path, ["u2"])
    assert Forgotten.of(tmp_path).among(["u1", "u2", "u3"]).tolist() == [True, True, False]
    assert not Forgotten().among(["u1"]).any()
