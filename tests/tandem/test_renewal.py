from dataclasses import replace

import numpy as np
import pytest
import yaml
from rich.console import Console

from interactions.errors import UserError
from interactions.histories import Histories
from interactions.split import RETRIEVAL, TEST
from tandem.config import load_config
from tandem.data import read_data
from tandem.forgotten import Forgotten, remember
from tandem.renewal import Changes, renew

ITEM_FEATURES = [
    {"name": "title", "kind": "text"},
    {"name": "price", "kind": "numeric"},
    {"name": "look", "kind": "vector"},
]


def write_items(file, rows):
    lines = [f'{name},{title},{price},"[{price}, 1]"' for name, title, price in rows]
    file.write_text("\n".join(["item_id,title,price,look", *lines, ""]))
    return file


@pytest.fixture(params=["time", "leave_last_out"])
def data(request, write_data, tmp_path):
    """What `write_data` writes, with items i0 to i29 of price 10 and a label on each row."""
    write_data(tmp_path)
    write_items(tmp_path / "items.csv", [(f"i{n}", "thing", 10) for n in range(30)])
    config = {
        "data": {
            "events": "events.csv",
            "items": "items.csv",
            "users": "users.csv",
            "item_features": ITEM_FEATURES,
            "user_features": [{"name": "region", "kind": "categorical"}],
            "event_features": [{"name": "device", "kind": "categorical"}],
        },
        "tasks": {"retrieval": {}, "rating": {"kind": "regression", "column": "rating"}},
        "split": {"kind": request.param},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    (tmp_path / "run").mkdir()
    return read_data(load_config(file), run=tmp_path / "run", console=Console(quiet=True))


def write_events(tmp_path, *rows):
    file = tmp_path / "later.csv"
    header = "user_id,item_id,timestamp,rating,bought,device"
    file.write_text("\n".join([header, *rows, ""]))
    return file


def rows_of(log, user):
    return np.flatnonzero(log.user_ids[log.user] == user)


def test_new_events_end_their_users_histories_and_change_no_window_of_the_training(data, tmp_path):
    last = int(data.log.time.max()) // 10**6
    file = write_events(
        tmp_path, f"u3,i5,{last + 9},5,0,phone", f"new,i5,{last + 8},,0,desk",
        f"u3,unheard,{last + 7},4,1,phone",
    )  # fmt: skip
    renewed = renew(data, Changes(events=file))
    log = renewed.data.log
    mine = rows_of(log, "u3")
    assert log.item_ids[log.item[mine]].tolist()[-2:] == ["unheard", "i5"]
    assert log.labels["rating"].value[mine][-2:].tolist() == [4.0, 5.0]
    assert (np.diff(log.time[mine]) >= 0).all()
    assert log.user_ids[log.user[rows_of(log, "new")]].tolist() == ["new"]
    assert len(log.user_table) == len(log.user_ids)
    assert len(log.item_table) == len(log.item_ids)
    for window in range(TEST):
        before, after = data.windows.rows(window), renewed.data.windows.rows(window)
        assert (data.log.time[before] == log.time[after]).all()
        assert (data.log.user_ids[data.log.user[before]] == log.user_ids[log.user[after]]).all()
    entry = renewed.entry
    assert (entry.events_new, entry.users_new, entry.items_new) == (3, 1, 1)
    assert len(Histories.of(log).items) == len(log)


def test_later_events_leave_the_propensities_of_those_before(data, tmp_path):
    """The later ones were shown by somebody else, and theirs are not asked for."""
    chance = np.random.default_rng(0).uniform(0.1, 0.9, len(data.log))
    logged = replace(data, log=replace(data.log, propensity=chance))
    logged = replace(logged, windows=replace(data.windows, log=logged.log))
    last = int(data.log.time.max()) // 10**6
    file = write_events(tmp_path, f"u3,i5,{last + 9},5,0,phone")
    found = renew(logged, Changes(events=file)).data.log.propensity
    assert np.isnan(found).sum() == 1
    assert sorted(found[~np.isnan(found)]) == sorted(chance)


def test_events_that_the_run_knows_are_passed_over(data, tmp_path):
    again = (tmp_path / "events.csv").read_text().splitlines()[1:60]
    renewed = renew(data, Changes(events=write_events(tmp_path, *again)))
    assert renewed.entry.events_new == 0
    assert len(renewed.data.log) == len(data.log)


def test_a_catalogue_brings_new_items_and_prices_and_withdraws_the_others(data, tmp_path):
    file = write_items(
        tmp_path / "now.csv", [("i0", "thing", 10), ("i1", "thing", 12), ("fresh", "a new one", 7)]
    )
    renewed = renew(data, Changes(items=file))
    log = renewed.data.log
    assert set(log.item_ids[renewed.offered]) == {"i0", "i1", "fresh"}
    price = dict(zip(log.item_ids, log.item_table["price"].to_pylist(), strict=True))
    assert (price["i0"], price["i1"], price["fresh"], price["i2"]) == (10, 12, 7, 10)
    assert (log.item_ids[log.item] == data.log.item_ids[data.log.item]).all()
    entry = renewed.entry
    assert (entry.items_offered, entry.items_new, entry.items_changed) == (3, 1, 1)
    assert entry.items_withdrawn == len(data.log.item_ids) - 2


def test_forgotten_users_are_gone_from_every_table(data, tmp_path):
    last = int(data.log.time.max()) // 10**6
    remember(tmp_path, ["u3", "quiet", "nobody"])
    events = write_events(tmp_path, f"u3,i5,{last},5,0,phone", f"u4,i5,{last + 5},5,0,phone")
    renewed = renew(data, Changes(events=events, forgotten=Forgotten.of(tmp_path)))
    log = renewed.data.log
    assert not {"u3", "quiet"} & set(log.user_ids)
    assert len(log.user_ids) == len(data.log.user_ids) - 2
    assert renewed.entry.users_forgotten == 2
    assert len(log) == len(data.log) - len(rows_of(data.log, "u3")) + 1
    region = dict(zip(log.user_ids, log.user_table["region"].to_pylist(), strict=True))
    assert (region["u4"], region["u5"]) == ("south", "north")
    for user in ("u4", "u59"):
        mine, before = rows_of(log, user), rows_of(data.log, user)
        assert (log.item[mine][: len(before)] == data.log.item[before]).all()
    assert renewed.data.windows.window.shape == log.user.shape
    assert renewed.data.windows.end(RETRIEVAL).size in (1, len(log))
    assert "u3" not in (tmp_path / "forgotten_users.txt").read_text()


def test_who_forgets_everybody_is_told_so(data, tmp_path):
    remember(tmp_path, data.log.user_ids)
    with pytest.raises(UserError, match="nothing is left"):
        renew(data, Changes(forgotten=Forgotten.of(tmp_path)))


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ("item_id,title\n1,x\n", "price"),
        ("item_id,title,price,look\n", "no rows"),
        (None, "now.csv"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_refused(data, tmp_path, items, says):
    file = tmp_path / "now.csv"
    if items is not None:
        file.write_text(items)
    with pytest.raises(UserError, match=says):
        renew(data, Changes(items=file))
