"""What a batch holds: every list and exposure once, and how much each counts."""

from dataclasses import replace

import numpy as np
import pytest

from ranking.batches import Batches
from ranking.config import RankingConfig
from ranking.model import Ranker
from ranking.objective import Objective
from ranking.scoring import Scorer

DAY = 86_400_000_000
"""In the log's microseconds."""


@pytest.fixture(scope="module")
def scorer(world):
    ranker = Ranker(world.inputs, RankingConfig(history=6), world.examples.past.copy())
    return Scorer(ranker, histories=world.histories, context=world.context)


def in_days(examples):
    """The same examples, a day between one event and the next."""
    table, shown = examples.candidates, examples.exposures
    asked, seen = (replace(one.queries, time=one.queries.time * DAY) for one in (table, shown))
    return replace(
        examples, candidates=replace(table, queries=asked), exposures=replace(shown, queries=seen)
    )


def batches(examples, scorer, **config):
    return Batches(examples, scorer, config=RankingConfig(batch_queries=64, **config), seed=3)


def test_everything_counts_alike_without_a_half_life(world, scorer):
    for batch in batches(world.examples, scorer).parts():
        assert (batch["choices"]["weight"].numpy() == 1).all()
        there = batch["exposures"]["items"].numpy() >= 0
        assert (batch["exposures"]["weight"].numpy() == there).all()


def test_after_each_half_life_an_event_counts_half(world, scorer):
    given = in_days(world.examples)
    latest = given.candidates.queries.time.max() // DAY
    lists = np.array([0, 7, 399])
    made = batches(given, scorer, half_life_days=7.0)
    batch = made.batch(lists, lists)
    age = latest - given.candidates.queries.time[lists] // DAY
    np.testing.assert_allclose(batch["choices"]["weight"], 0.5 ** (age / 7.0), rtol=1e-5)
    places = made.pages.exposure[lists]
    age = latest - given.exposures.queries.time[places] // DAY
    wanted = np.where(places >= 0, 0.5 ** (age / 7.0), 0)
    np.testing.assert_allclose(batch["exposures"]["weight"], wanted, rtol=1e-5)


def test_what_the_log_says_an_event_counts_is_halved_by_its_age(world, scorer):
    logged = np.random.default_rng(0).random(len(world.log)).astype(np.float32)
    given = replace(in_days(world.examples), weight=logged)
    for half_life in (None, 7.0):
        plain = batches(replace(given, weight=None), scorer, half_life_days=half_life)
        weighed = batches(given, scorer, half_life_days=half_life)
        for one, other in zip(plain.parts(), weighed.parts(), strict=True):
            assert (one["choices"]["users"].numpy() == other["choices"]["users"].numpy()).all()
        lists = np.array([0, 7, 399])
        one, other = plain.batch(lists, lists), weighed.batch(lists, lists)
        asked = given.candidates.queries.row[lists]
        np.testing.assert_allclose(
            other["choices"]["weight"], one["choices"]["weight"] * logged[asked], rtol=1e-5
        )
        places = weighed.pages.exposure[lists]
        wanted = np.where(places >= 0, logged[given.exposures.queries.row[places]], 0)
        np.testing.assert_allclose(
            other["exposures"]["weight"], one["exposures"]["weight"] * wanted, rtol=1e-5
        )


def test_an_epoch_passes_over_every_exposure_once_and_again_in_another_order(world, scorer):
    made = batches(world.examples, scorer)
    epochs = [[batch["exposures"] for batch in made.epoch(number)] for number in (0, 1)]
    assert len(epochs[0]) == made.steps
    for epoch in epochs:
        shown = np.concatenate([part["items"].numpy().ravel() for part in epoch])
        found = np.bincount(shown[shown >= 0])
        np.testing.assert_array_equal(found, np.bincount(world.log.item))
        labels = np.concatenate([part["labels"]["purchase"].numpy().ravel() for part in epoch])
        assert np.nansum(labels) == world.examples.exposures.labels["purchase"].sum()
    first, second = (epoch[0]["items"].numpy() for epoch in epochs)
    assert first.shape != second.shape or (first != second).any()


def test_lists_with_histories_of_like_length_share_a_batch(world):
    config = RankingConfig(batch_queries=10, history=20)
    ranker = Ranker(world.inputs, config, world.examples.past.copy())
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    made = Batches(world.examples, scorer, config=config, seed=3)

    def longest(batch):
        return (batch["choices"]["history"].numpy() >= 0).sum(axis=1).max()

    asked = world.examples.candidates.queries
    lengths = world.histories.before(asked.user, asked.time, length=20).count
    epoch = list(made.epoch(0))
    assert len(epoch) == made.steps == len(lengths) // 10
    users = np.concatenate([batch["choices"]["users"].numpy() for batch in epoch])
    np.testing.assert_array_equal(np.sort(users), np.sort(asked.user))
    shuffled = np.random.default_rng(0).permutation(lengths).reshape(-1, 10)
    order = [longest(batch) for batch in epoch]
    assert sum(order) < 0.8 * shuffled.max(axis=1).sum()
    # neither the shortest nor the longest come first, and again the same way
    assert order not in (sorted(order), sorted(order)[::-1])
    assert order == [longest(batch) for batch in made.epoch(0)]


def test_everything_is_validated_once(world, scorer):
    made = batches(world.examples, scorer)
    parts = list(made.parts())
    asked = world.examples.candidates.queries
    users = np.concatenate([part["choices"]["users"].numpy() for part in parts])
    np.testing.assert_array_equal(np.sort(users), np.sort(asked.user))
    shown = np.concatenate([part["exposures"]["items"].numpy().ravel() for part in parts])
    np.testing.assert_array_equal(
        np.bincount(shown[shown >= 0]), np.bincount(world.examples.exposures.queries.item)
    )


@pytest.mark.parametrize("lists", [3, 400])
def test_however_many_exposures_come_with_few_choices_no_part_is_huge(world, scorer, lists):
    given = world.examples
    many = np.repeat(np.arange(len(given.exposures)), 30)
    given = replace(
        given,
        candidates=given.candidates.take(np.arange(lists)),
        exposures=given.exposures.take(many),
    )
    parts = list(batches(given, scorer).parts())
    shown = [part["exposures"]["items"].numpy() for part in parts]
    assert max(items.size for items in shown) < 5000
    found = np.concatenate([items.ravel() for items in shown])
    np.testing.assert_array_equal(
        np.bincount(found[found >= 0]), np.bincount(given.exposures.queries.item)
    )
    users = np.concatenate([part["choices"]["users"].numpy() for part in parts])
    np.testing.assert_array_equal(np.sort(users), np.sort(given.candidates.queries.user))


@pytest.mark.parametrize("history_model", ["mean", "target_attention", "transformer"])
def test_a_part_without_lists_or_without_pages_has_finite_losses(world, history_model):
    config = RankingConfig(history=6, history_model=history_model)
    ranker = Ranker(world.inputs, config, world.examples.past.copy())
    scorer = Scorer(ranker, histories=world.histories, context=world.context)
    made, none, some = batches(world.examples, scorer), np.zeros(0, np.int64), np.arange(9)
    for lists, pages, silent in ((none, some, {"retrieval"}), (some, none, {"rating", "purchase"})):
        losses = Objective(ranker)(made.batch(lists, pages), None)
        for task, loss in losses.items():
            assert float(loss) == 0 if task in silent else 0 < float(loss) < np.inf
