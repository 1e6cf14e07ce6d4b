"""What comes after a stage's windows changes nothing that the stage has learnt, bit for bit."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from interactions.candidates import Candidates
from interactions.config import SplitConfig
from interactions.log import EventLog, Labels
from interactions.split import RANKING, RETRIEVAL, VALIDATION, Windows, split
from retrieval.search import Searcher
from retrieval.settling import Settled
from retrieval.training import TrainingData, fit_retriever, restore_retriever
from tandem import system
from tandem.config import TandemConfig
from tandem.data import Data, encode
from tandem.resources import Resources

USERS, ITEMS, ROWS = 60, 40, 1500


def make_log():
    rng = np.random.default_rng(11)
    user = np.sort(rng.integers(0, USERS, ROWS)).astype(np.int32)
    # coarse times, so that many are equal
    time = rng.integers(0, 400, ROWS) * 3_600_000_000
    order = np.lexsort((time, user))
    time = time[order].astype(np.int64)
    # new items arrive all the time, so that a first appearance says something
    arrived = 5 + (ITEMS - 5) * (time - time.min()) // (time.max() - time.min())
    item = (rng.random(ROWS) * arrived).astype(np.int32)
    # a pair's ratings are alike, so that its earlier ones say something
    rating = rng.normal(size=(USERS, ITEMS))[user, item] + 0.3 * rng.normal(size=ROWS)
    rating = rating.astype(np.float32)
    rating[rng.random(ROWS) < 0.3] = np.nan
    return EventLog(
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        item_ids=np.array([f"i{n}" for n in range(ITEMS)], object),
        user=user,
        item=item,
        time=time,
        chosen=rng.random(ROWS) < 0.9,
        exposure=np.ones(ROWS, bool),
        labels={"rating": Labels(rating, time)},
        event_table=pa.table({"device": rng.choice(["phone", "desk", "tv"], ROWS)}),
        user_table=pa.table({"region": rng.choice(["north", "south"], USERS)}),
        item_table=pa.table({"price": rng.random(ITEMS)}),
        has_times=True,
        weight=rng.choice([0.5, 1.0, 2.0], ROWS).astype(np.float32),
    )


def config_of(kind):
    return TandemConfig.model_validate(
        {
            "data": {
                "events": "none.csv",
                "user_features": [{"name": "region", "kind": "categorical"}],
                "item_features": [{"name": "price", "kind": "numeric"}],
                "event_features": [{"name": "device", "kind": "categorical"}],
            },
            "tasks": {
                "retrieval": {"weight": 1.0},
                "rating": {"kind": "regression", "column": "rating"},
            },
            "split": {"kind": kind},
            "retrieval": {
                "embedding_dim": 4, "feature_dim": 2, "hidden_dim": 4, "history": 8,
                "batch_events": 300,
            },
        }
    )  # fmt: skip


def perturbed(data, after):
    """Give the rows of windows behind `after` other items, labels, contexts and weights.

    At their times, and chosen where they were: by these the moments of the trends are laid.
    """
    rng = np.random.default_rng(99)
    log, rows = data.log, np.flatnonzero(data.windows.window > after)
    item, rating = log.item.copy(), log.labels["rating"].value.copy()
    item[rows] = rng.integers(0, ITEMS, len(rows))
    rating[rows] = rng.normal(size=len(rows)) * 100
    known_at = log.labels["rating"].known_at
    device = log.event_table["device"].to_numpy(zero_copy_only=False).copy()
    device[rows] = "watch"
    weight = log.weight.copy()
    weight[rows] = rng.random(len(rows)) * 10
    changed = dataclasses.replace(
        log,
        item=item,
        weight=weight,
        labels={"rating": Labels(rating, known_at)},
        event_table=pa.table({"device": device}),
    )
    windows = Windows(changed, data.windows.kind, data.windows.window, data.windows.ends)
    return Data(changed, windows, data.config)


def learnt(data, windows, folder):
    """Everything a retriever of these windows is made of, after three epochs."""
    rows = data.windows.rows(*windows)
    encoded = encode(data, rows, folder=folder / "features")
    retriever, _ = fit_retriever(
        encoded.retriever_inputs,
        TrainingData(data.log, rows, encoded.context, data.repeats),
        config=data.config.retrieval,
        folder=folder / "retriever",
        seed=1,
        steps=12,
    )
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "features").rglob("*"))
        if file.is_file()
    }
    statistics = data.statistics(*windows)
    near = [v.numpy() for v in data.past(*windows).variables]
    weights = [v.numpy() for v in retriever.trainable_variables]
    return files, statistics, near, weights


@pytest.fixture(scope="module", params=["time", "leave_last_out", "random"])
def data(request):
    log, config = make_log(), config_of(request.param)
    split_config = SplitConfig(kind=request.param)
    return Data(log, split(log, split_config), config)


@pytest.mark.parametrize("windows", [(RETRIEVAL,), (RETRIEVAL, RANKING)], ids=["R", "R+K"])
def test_nothing_later_reaches_the_retriever_and_what_it_knows(data, windows, tmp_path):
    other = perturbed(data, windows[-1])
    assert (other.log.item != data.log.item).any()
    files, statistics, near, weights = learnt(data, windows, tmp_path / "one")
    again = learnt(other, windows, tmp_path / "other")
    assert files == again[0] and len(files) > 3
    np.testing.assert_array_equal(statistics.user, again[1].user)
    np.testing.assert_array_equal(statistics.item, again[1].item)
    assert statistics.label_mean == again[1].label_mean
    for mine, theirs in zip(near, again[2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if data.windows.kind == "random":
        return  # since when an item is there, and can be a negative, the whole log says
    for mine, theirs in zip(weights, again[3], strict=True):
        np.testing.assert_array_equal(mine, theirs)


FROZEN = system.Choices(
    first_retriever_steps=8,
    continued=False,
    retriever_steps=8,
    settled=Settled(),
    ranker_steps=1,
    order={"retrieval": 1.0},
)


class CandidatesMade(Exception):
    """All that the candidates are made of is there."""


def made_candidates(data, folder):
    """Train as a fit does, without a validation to stop by, until the candidates are made."""

    def only_the_first(*given, folder, **named):
        if folder.name != system.FIRST_RETRIEVER:
            raise CandidatesMade
        return fit_retriever(*given, folder=folder, **named)

    console = Console(quiet=True)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(CandidatesMade):
        patched.setattr(system, "fit_retriever", only_the_first)
        system.train_system(
            data, folder=folder, frozen=FROZEN, resources=Resources(console), console=console
        )
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    return made_candidates(data, tmp_path_factory.mktemp("made"))


def first_retriever(data, folder):
    """What made the candidates of the run in `folder`, ready to be asked."""
    rows = data.windows.rows(RETRIEVAL)
    early = encode(data, rows, folder=folder / "features" / "retrieval_window")
    retriever = restore_retriever(
        early.retriever_inputs, config=data.config.retrieval, folder=folder / system.FIRST_RETRIEVER
    )
    return Searcher(retriever, log=data.log, context=early.context, seen_rows=rows)


def test_a_fit_makes_the_candidates_by_a_retriever_that_knows_the_first_window_alone(
    data, made, tmp_path
):
    """The way a fit goes: who learns from what, and whose scores stand in the table."""
    table = Candidates.load(made / "candidates.parquet")
    searcher = first_retriever(data, made)
    there = table.item >= 0
    scores = searcher.score(table.queries, table.item)
    np.testing.assert_allclose(table.retrieval_score[there], scores[there], atol=1e-5)
    assert set(table.queries.row) <= set(data.windows.rows(RANKING))
    if data.windows.kind == "random":
        return  # as above
    other = perturbed(data, RETRIEVAL)
    again = first_retriever(other, made_candidates(other, tmp_path))
    for mine, theirs in zip(
        searcher.retriever.trainable_variables, again.retriever.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_no_label_of_the_ranking_window_and_nothing_later_reaches_the_candidates(
    data, made, tmp_path
):
    """The table itself: who asked, what was drawn, and its scores.

    These but for rounding: an earlier trend is what it differs by from the latest.
    """
    if data.windows.kind == "random":
        return  # as above
    later = perturbed(data, RANKING)
    # where held-out events lie among the others, they say too since when an item is there
    item = later.log.item if data.windows.kind == "time" else data.log.item
    rating = later.log.labels["rating"]
    unlabelled = np.where(data.windows.window >= RANKING, np.nan, rating.value)
    labels = {"rating": Labels(unlabelled.astype(np.float32), rating.known_at)}
    log = dataclasses.replace(later.log, item=item, labels=labels)
    windows = Windows(log, data.windows.kind, data.windows.window, data.windows.ends)
    again = made_candidates(Data(log, windows, data.config), tmp_path)
    one, other = (Candidates.load(run / "candidates.parquet") for run in (made, again))
    np.testing.assert_array_equal(one.queries.row, other.queries.row)
    np.testing.assert_array_equal(one.item, other.item)
    np.testing.assert_array_equal(one.log_weight, other.log_weight)
    np.testing.assert_allclose(one.retrieval_score, other.retrieval_score, atol=1e-5)


def test_what_lies_within_the_windows_does_reach_them(data, tmp_path):
    """The perturbation is strong enough to be seen where it may be."""
    other = perturbed(data, RETRIEVAL)
    both = (RETRIEVAL, RANKING)
    assert (data.statistics(*both).item != other.statistics(*both).item).any()
    one, two = (d.past(*both).variables for d in (data, other))
    assert {"item_factors_rating", "own_rating"} <= {v.name.split(":")[0] for v in one}
    for mine, theirs in zip(one, two, strict=True):
        if not mine.name.startswith("logarithm"):  # ratings below 0 have none
            assert not np.array_equal(mine.numpy(), theirs.numpy())


def test_validation_and_test_rows_are_in_no_window_of_training(data):
    rows = data.windows.rows(RETRIEVAL, RANKING)
    assert not set(rows) & set(data.windows.rows(VALIDATION, VALIDATION + 1))
