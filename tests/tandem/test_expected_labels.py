from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from rich.console import Console

from interactions.candidates import Candidates
from interactions.config import DataConfig
from interactions.log import EventLog, Labels
from interactions.split import RANKING, RETRIEVAL, VALIDATION
from ranking.config import LOGGING_POLICY
from ranking.model import RETRIEVAL as CHOICE
from ranking.model import Ranker
from ranking.ordering import validation_lists
from tandem.config import TandemConfig
from tandem.data import Data, encode, read_data
from tandem.expected_labels import factors_by_task
from tandem.fit import config_of
from tandem.system import ranker_inputs

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


@pytest.fixture(scope="module")
def shop():
    """By seed: a log of few views by taste, and propensities of a policy that knows the tastes."""
    rng = np.random.default_rng(7)
    tastes = rng.normal(size=(USERS, 2)), rng.normal(size=(ITEMS, 2))
    user, item = rng.integers(0, 60, ROWS), rng.integers(0, 60, ROWS)
    agreed = np.einsum("nd,nd->n", tastes[0][user], tastes[1][item])
    view = (rng.random(ROWS) < 1 / (1 + np.exp(2.0 - agreed))).astype(np.float32)
    policy = -6.0 + agreed + rng.normal(0, 0.3, ROWS)
    return user.astype(np.int32), item.astype(np.int32), view, policy


def test_what_the_policy_knew_says_what_labels_to_expect(log, shop):
    user, item, view, policy = shop
    log = replace(log, user=user, item=item, chosen=np.zeros(ROWS, bool))
    learnt, held = np.arange(0, ROWS, 2), np.arange(1, ROWS, 2)
    view = np.where(np.arange(ROWS) % 4 == 0, np.nan, view)
    found = {
        told: factors_by_task(
            log, learnt, {"view": view} | given, config=DataConfig(events="none.csv")
        )
        for told, given in (("policy", {LOGGING_POLICY: policy}), ("nothing", {}))
    }
    assert list(found["policy"]) == ["view", LOGGING_POLICY]
    error = {
        told: np.mean((one["view"].predict(user[held], item[held]) - view[held]) ** 2)
        for told, one in found.items()
    }
    assert error["policy"] < 0.9 * error["nothing"]
    said = found["policy"][LOGGING_POLICY].predict(user[held], item[held])
    assert np.corrcoef(said, policy[held])[0, 1] > 0.7


@pytest.fixture(scope="module")
def logged(finished):
    """The finished run's data, and chances with which it showed everything."""
    run = finished.folder
    data = read_data(config_of(run), run=run, console=Console(quiet=True))
    return data, np.random.default_rng(0).uniform(0.01, 0.5, len(data.log))


def told_policy(data, chance):
    data = Data(replace(data.log, propensity=chance), data.windows, data.config)
    past = data.past(RETRIEVAL)
    return past.factorised, [variable.numpy() for variable in past.variables]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_later_propensity_is_known_at_a_cut(logged):
    data, chance = logged
    names, before = told_policy(data, chance)
    assert names[-1] == LOGGING_POLICY
    later, earlier = chance.copy(), chance.copy()
    later[data.windows.window >= RANKING] = 0.9
    earlier[data.windows.rows(RETRIEVAL)[:20]] = 0.9
    assert same(before, told_policy(data, later)[1])
    assert not same(before, told_policy(data, earlier)[1])


def test_the_config_may_keep_the_policy_from_the_ranker(logged):
    data, chance = logged
    ranking = data.config.ranking.model_copy(update={"logging_policy": False})
    without = Data(data.log, data.windows, data.config.model_copy(update={"ranking": ranking}))
    names, tables = told_policy(without, chance)
    assert LOGGING_POLICY not in names
    assert same(tables, told_policy(data, None)[1])


def test_an_order_is_told_what_the_ranker_expects_of_the_policy(logged, tmp_path):
    data, chance = logged
    data = Data(replace(data.log, propensity=chance), data.windows, data.config)
    rows = data.windows.rows(RETRIEVAL)
    encoded = encode(data, rows, folder=tmp_path)
    past = data.past(RETRIEVAL, RANKING)
    ranker = Ranker(ranker_inputs(data, encoded), data.config.ranking, past)
    queries = data.queries(VALIDATION)
    item = np.random.default_rng(1).integers(0, len(data.log.item_ids), (len(queries), 7))
    item[0, 3:] = -1
    zeros = np.zeros(item.shape, np.float32)
    lists = Candidates(queries, item.astype(np.int32), zeros, zeros)
    told = validation_lists(ranker, lists, {CHOICE: zeros}).log_shown
    factors = data.label_factors(RETRIEVAL, RANKING)[LOGGING_POLICY]
    low, high = data.statistics(RETRIEVAL).label_range[LOGGING_POLICY]
    assert told is not None
    there = item >= 0
    user = np.broadcast_to(queries.user[:, np.newaxis], item.shape)[there]
    expected = factors.predict(user, item[there]).clip(low, high)
    np.testing.assert_allclose(told[there], expected, rtol=1e-4, atol=1e-5)


def test_no_task_is_called_like_the_policy():
    tasks = {"retrieval": {}, LOGGING_POLICY: {"kind": "binary", "column": "bought"}}
    with pytest.raises(ValidationError, match="give the task another name"):
        TandemConfig.model_validate({"data": {"events": "none.csv"}, "tasks": tasks})


@pytest.mark.parametrize(
    ("early", "known"),
    [
        ("different", True),
        ("none", False),
        ("equal", False),
        ("few", False),
        ("nearly equal", True),
    ],
)
def test_a_policy_is_told_as_far_as_the_ranker_can_learn_it(logged, early, known):
    """Whatever is known later, the ranker's number of it stays of one size."""
    data, chance = logged
    chance, rows = chance.copy(), data.windows.rows(RETRIEVAL)
    drawn = chance[rows]
    chance[rows] = {
        "different": drawn,
        "none": np.full(len(rows), np.nan),
        "equal": np.full(len(rows), 0.1),
        "few": np.where(np.arange(len(rows)) < 10, drawn, np.nan),
        "nearly equal": np.where(np.arange(len(rows)) % 2, 0.1, 0.11),
    }[early]
    data = Data(replace(data.log, propensity=chance), data.windows, data.config)
    assert data.knows_policy == known
    counted, factors = data.statistics(RETRIEVAL), data.label_factors(RETRIEVAL, RANKING)
    assert (LOGGING_POLICY in counted.label_mean) == (LOGGING_POLICY in factors) == known
    assert np.isfinite(counted.item).all() and np.abs(counted.item).max() < 10
    if known:
        low, high = counted.label_range[LOGGING_POLICY]
        said = factors[LOGGING_POLICY].predict(data.log.user, data.log.item).clip(low, high)
        number = (said - counted.label_mean[LOGGING_POLICY]) / counted.label_std[LOGGING_POLICY]
        assert np.abs(number).max() < 10
