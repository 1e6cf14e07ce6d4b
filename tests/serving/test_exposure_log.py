"""The log of what was served: what is in it, what is dropped, and that `fit`'s loader reads it."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interactions.errors import UserError
from interactions.loading import load
from serving import exposure_log, messages
from serving.exposure_log import ExposureLog, ExposureLogOptions
from serving.tensors import to_tensor
from tandem.config import parse_config

GUIDE = Path(__file__).parents[2] / "docs" / "exposure-log.md"


def asked(*users):
    request = messages.PredictRequest()
    request.inputs["user_id"].CopyFrom(to_tensor(list(users)))
    return request


def answer(users, *, model="recommender", width=4, counts=None):
    """A list u/0, u/1, .. for each user u, scores falling from `width`."""
    response = messages.PredictResponse()
    response.model_spec.name = model
    response.model_spec.version.value = 7
    scores = np.tile(np.arange(width, 0, -1, dtype=np.float32), (len(users), 1))
    for name, values in {
        "item_id": [[f"{user}/{rank}" for rank in range(width)] for user in users],
        "score": scores,
        "retrieval_score": scores / 2,
        "count": np.array(counts or [width] * len(users), np.int32),
    }.items():
        response.outputs[name].CopyFrom(to_tensor(values))
    return response


def logging_to(folder, *, share=1.0, seed=1, **options):
    return ExposureLog(ExposureLogOptions(folder, share=share, **options), seed=seed)


def read(folder):
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*"))])


def test_a_row_says_who_was_shown_what_where_and_by_which_model(tmp_path):
    log = logging_to(tmp_path, places=3)
    before = time.time()
    log.observe(asked("zoë", "bob"), answer(["zoë", "bob"], counts=[4, 2]))
    log.close()
    rows = read(tmp_path).to_pylist()
    assert [(row["user_id"], row["item_id"], row["position"]) for row in rows] == [
        ("zoë", "zoë/0", 1), ("zoë", "zoë/1", 2), ("zoë", "zoë/2", 3),
        ("bob", "bob/0", 1), ("bob", "bob/1", 2),
    ]  # fmt: skip
    first = rows[0]
    assert (first["score"], first["retrieval_score"]) == (4.0, 2.0)
    assert (first["model"], first["version"]) == ("recommender", 7)
    assert (first["exploration"], first["sample_share"]) == (0.0, 1.0)
    assert before - 1 <= first["timestamp"].timestamp() <= time.time() + 1
    assert len({row["request_id"] for row in rows}) == 2
    assert log.counts.written == 5


def test_a_share_of_the_lists_is_drawn_whole(tmp_path):
    log = logging_to(tmp_path, share=0.2, most_waiting=3000)
    for n in range(1000):
        log.observe(asked(f"{n}a", f"{n}b"), answer([f"{n}a", f"{n}b"]))
    log.close()
    table = read(tmp_path)
    lists = table.group_by("request_id").aggregate([("item_id", "count")])
    assert set(lists["item_id_count"].to_pylist()) == {4}
    # 2000 draws at .2: 400, standard deviation 18
    assert abs(lists.num_rows - 400) < 90


def test_other_models_and_other_questions_are_passed_over(tmp_path):
    log = logging_to(tmp_path)
    log.observe(asked("ann"), answer(["ann"], model="retrieval"))
    log.observe(messages.PredictRequest(), answer(["ann"]))
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert log.counts.dropped_answers == 0


def test_an_answer_without_scores_is_dropped_and_counted(tmp_path):
    log = logging_to(tmp_path)
    filtered = answer(["ann"])
    del filtered.outputs["score"]
    log.observe(asked("ann"), filtered)
    log.observe(asked("bob"), answer(["bob"]))
    log.close()
    assert set(read(tmp_path)["user_id"].to_pylist()) == {"bob"}
    assert log.counts.dropped_answers == 1


def test_shards_are_closed_by_rows_and_by_time(tmp_path):
    log = logging_to(tmp_path / "rows", rows_per_shard=8)
    for _ in range(5):
        log.observe(asked("ann"), answer(["ann"]))
    log.close()
    sizes = [pq.read_metadata(file).num_rows for file in (tmp_path / "rows").iterdir()]
    assert sorted(sizes) == [4, 8, 8]
    log = logging_to(tmp_path / "time", seconds_per_shard=0.05)
    log.observe(asked("ann"), answer(["ann"]))
    end = time.monotonic() + 5
    while not list((tmp_path / "time").glob("*.parquet")) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(list((tmp_path / "time").glob("*.parquet"))) == 1
    log.close()


def test_a_full_queue_drops_and_never_waits(tmp_path, monkeypatch):
    writing = threading.Event()

    def stuck(*given, **named):
        writing.wait(5)

    monkeypatch.setattr(exposure_log.pq, "write_table", stuck)
    log = logging_to(tmp_path, rows_per_shard=1, most_waiting=2)
    begin = time.monotonic()
    for _ in range(20):
        log.observe(asked("ann"), answer(["ann"]))
    assert time.monotonic() - begin < 2
    assert log.counts.dropped_answers >= 17
    monkeypatch.undo()
    writing.set()
    log.close()


def test_a_disk_that_fails_loses_rows_and_goes_on(tmp_path, monkeypatch, caplog):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    log = logging_to(tmp_path, rows_per_shard=4)
    monkeypatch.setattr(exposure_log.pq, "write_table", full)
    log.observe(asked("ann"), answer(["ann"]))
    end = time.monotonic() + 5
    while not log.counts.lost_rows and time.monotonic() < end:
        time.sleep(0.01)
    monkeypatch.undo()
    log.observe(asked("bob"), answer(["bob"]))
    log.close()
    assert (log.counts.lost_rows, log.counts.written) == (4, 4)
    assert set(read(tmp_path)["user_id"].to_pylist()) == {"bob"}
    assert "ann" not in caplog.text


def test_what_is_being_written_is_hidden_from_readers(tmp_path, monkeypatch):
    seen = []
    write = pq.write_table

    def watched(table, file, **named):
        write(table, file, **named)
        seen.append(file.name)
        assert not list(tmp_path.glob("*.parquet"))

    monkeypatch.setattr(exposure_log.pq, "write_table", watched)
    log = logging_to(tmp_path)
    log.observe(asked("ann"), answer(["ann"]))
    log.close()
    assert seen[0].startswith(".")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.5}, {"places": 0}])
def test_senseless_options_are_refused(tmp_path, options):
    with pytest.raises(UserError):
        ExposureLogOptions(tmp_path, **options)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/log"):
        logging_to(tmp_path / "file" / "log")


def test_what_was_served_is_what_fit_reads(tmp_path):
    """The config of docs/exposure-log.md: served lists are exposures, the shop's events labels."""
    log = logging_to(tmp_path / "exposures", places=2)
    users = [f"u{n}" for n in range(6)]
    log.observe(asked(*users), answer(users))
    log.close()
    shown = read(tmp_path / "exposures")
    # u0 .. u2 chose the first item of their list a minute later, and u0 bought it.
    minute = np.timedelta64(60, "s")
    later = shown["timestamp"][0].as_py().replace(tzinfo=None)
    moments = [np.datetime64(later) + minute] * 3 + [np.datetime64(later) + 2 * minute]
    outcomes = pa.table(
        {
            "user_id": ["u0", "u1", "u2", "u0"],
            "item_id": ["u0/0", "u1/0", "u2/0", "u0/0"],
            "timestamp": pa.array(moments).cast(pa.timestamp("us", "UTC")),
            "event": ["view", "view", "view", "purchase"],
        }
    )
    pq.write_table(outcomes, tmp_path / "shop.parquet")
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    config = parse_config(yaml.safe_load(block), base=tmp_path)
    events = load(config.data, config.tasks, base=tmp_path).log
    assert int(events.exposure.sum()) == 12
    assert int(events.chosen.sum()) == 3
    names = events.item_ids[events.item[events.exposure]]
    view = events.labels["view"].value[events.exposure]
    purchase = events.labels["purchase"].value[events.exposure]
    assert {str(n) for n in names[view == 1]} == {"u0/0", "u1/0", "u2/0"}
    assert {str(n) for n in names[purchase == 1]} == {"u0/0"}
    assert set(view[view != 1]) == {0.0}
