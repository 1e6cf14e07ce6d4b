from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from interactions.config import DataConfig
from interactions.log import EventLog, Labels
from tandem.expected_labels import factors_by_task

USERS, ITEMS, ROWS = 300, 200, 6000


@pytest.fixture
def log():
    """Pages on which who views what is left to chance, and what was viewed is bought or not."""
    rng = np.random.default_rng(2)
    user = np.sort(rng.integers(0, USERS, ROWS)).astype(np.int32)
    item = rng.integers(0, ITEMS, ROWS).astype(np.int32)
    view, price = rng.random(ROWS) < 0.3, rng.lognormal(1.0, 1.0, ITEMS)
    now = np.arange(ROWS, dtype=np.int64)
    return EventLog(
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        item_ids=np.array([f"i{n}" for n in range(ITEMS)], object),
        user=user,
        item=item,
        time=now,
        chosen=view,
        exposure=np.ones(ROWS, bool),
        labels={
            "view": Labels(view.astype(np.float32), now),
            "paid": Labels(np.where(view, price[item] * rng.lognormal(0, 0.3, ROWS), np.nan), now),
        },
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=True,
    )


def factors(log, rows):
    labels = {task: own.value for task, own in log.labels.items()}
    return factors_by_task(log, rows, labels, config=DataConfig(events="none.csv"))


def test_every_task_has_factors_in_units_of_its_labels(log):
    found = factors(log, np.arange(ROWS))
    assert set(found) == {"view", "paid"}
    for task, one in found.items():
        said, label = one.predict(log.user, log.item), log.labels[task].value
        assert said.mean() == pytest.approx(np.nanmean(label), rel=0.1)
    there = ~np.isnan(log.labels["paid"].value)
    paid = found["paid"].predict(log.user[there], log.item[there])
    assert np.corrcoef(paid, log.labels["paid"].value[there])[0, 1] > 0.8


def test_chance_teaches_nothing_about_other_rows(log):
    """What a user chose is the label of a view: traits made of it would explain the labels."""
    some = np.random.default_rng(3).permutation(ROWS)
    learnt, held = np.sort(some[: ROWS // 2]), some[ROWS // 2 :]
    label = log.labels["view"].value[held]
    said = factors(log, learnt)["view"].predict(log.user[held], log.item[held])
    assert np.mean(np.square(said - label)) < 1.025 * label.var()


def test_other_rows_are_not_looked_at(log):
    rows, others = np.arange(0, ROWS, 2), np.arange(1, ROWS, 2)
    item, chosen = log.item.copy(), log.chosen.copy()
    item[others] = np.roll(item[others], 1)
    chosen[others] = ~chosen[others]
    labels = {}
    for task, own in log.labels.items():
        values = own.value.copy()
        values[others] = 1.0 - values[others]
        labels[task] = Labels(values, own.known_at)
    other = replace(log, item=item, chosen=chosen, labels=labels)
    for task, one in factors(log, rows).items():
        np.testing.assert_array_equal(one.item, factors(other, rows)[task].item)
        np.testing.assert_array_equal(one.user, factors(other, rows)[task].user)
