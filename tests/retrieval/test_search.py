"""Top-k lists and standardised scores against their written-out definitions."""

import numpy as np
import pytest

from features.backend import tf
from interactions.queries import Queries, queries
from interactions.ragged import Ragged
from retrieval.index import NOTHING
from retrieval.standard_scores import CatalogueMoments, SlotMoments, Standardise


def raw_scores(searcher, asked):
    """[Q, items]: product of the towers plus the popularity at the query's time, as trained."""
    retriever = searcher.retriever
    vectors = searcher.embed(asked)[:, :-1]
    items = retriever.candidate_tower(tf.range(len(searcher.embeddings))).numpy()
    bias = retriever.trend_bias().numpy()[retriever.trends.slot(asked.time)]
    return vectors @ items.T + bias


@pytest.fixture(scope="module")
def asked(world):
    return queries(world.log, world.late, repeats=False).take(np.arange(0, 600, 3))


def test_scores_are_those_of_the_training_loss_standardised(world, asked):
    searcher = world.searcher
    items = np.tile(np.arange(len(world.log.item_ids)), (len(asked), 1))
    raw = raw_scores(searcher, asked)
    known = np.unique(world.log.item[world.early])
    mean = raw[:, known].mean(axis=1, keepdims=True)
    std = raw[:, known].std(axis=1, keepdims=True)
    np.testing.assert_allclose(searcher.score(asked, items), (raw - mean) / std, atol=2e-3)


@pytest.mark.parametrize("k", [1, 10, 150, 500])
def test_it_finds_the_best_of_what_had_appeared_and_was_not_seen(world, asked, k):
    log, seen = world.log, world.histories.seen(asked.row)
    found = world.searcher.search(asked, k=k, seen=seen)
    raw = raw_scores(world.searcher, asked)
    assert found.item.shape == (len(asked), min(k, len(log.item_ids)))
    for query in range(len(asked)):
        out = seen.items[seen.offsets[query] : seen.offsets[query + 1]]
        there = np.setdiff1d(np.flatnonzero(log.first_seen <= asked.time[query]), out)
        listed = found.item[query][found.item[query] >= 0]
        assert len(listed) == min(k, len(there)) and set(listed) <= set(there)
        best = np.sort(raw[query, there])[::-1][: len(listed)]
        np.testing.assert_allclose(raw[query, listed], best, atol=1e-4)
        assert (found.item[query, len(listed) :] == -1).all()
        assert (found.score[query, len(listed) :] == np.float32(NOTHING)).all()


def test_a_list_carries_the_scores_that_are_asked_for_one_by_one(world, asked):
    found = world.searcher.search(asked, k=20, seen=world.histories.seen(asked.row))
    scores = world.searcher.score(asked, found.item)
    there = found.item >= 0
    np.testing.assert_allclose(found.score[there], scores[there], atol=1e-3)
    assert (scores[~there] == 0).all()


def test_no_query_gets_no_list(world, asked):
    nothing = asked.take(np.zeros(0, np.int64))
    assert world.searcher.search(nothing, k=5, seen=Ragged.empty(0)).item.shape == (0, 5)
    assert world.searcher.score(nothing, np.zeros((0, 3), np.int32)).shape == (0, 3)
    assert world.searcher.embed(nothing).shape == (0, world.searcher.embeddings.shape[1])


def test_one_query_is_answered_as_it_is_among_others(world, asked):
    seen = world.histories.seen(asked.row)
    together = world.searcher.search(asked, k=10, seen=seen)
    for query in (0, 77, 199):
        alone = asked.take(np.array([query]))
        found = world.searcher.search(alone, k=10, seen=world.histories.seen(alone.row))
        np.testing.assert_allclose(found.score[0], together.score[query], atol=1e-4)


def test_an_unknown_user_and_a_query_before_all_times_are_answered(world):
    nobody = Queries(
        np.array([0, 0]), np.array([-1, 3], np.int32),
        np.array([world.log.time.max(), world.log.time.min() - 1]), np.array([0, 0], np.int32),
    )  # fmt: skip
    found = world.searcher.search(nobody, k=5, seen=Ragged.empty(2))
    assert (found.item[0] >= 0).all() and np.isfinite(found.score).all()
    assert (found.item[1] == -1).all()


def test_scores_of_two_retrievers_are_distributed_alike(world, asked):
    """Mean 0 and deviation 1 over what each knows, for every query."""
    for searcher, until in ((world.searcher, 200), (world.later_searcher, 270)):
        known = np.unique(world.log.item[world.log.time < until * 86_400_000_000])
        scores = searcher.score(asked, np.tile(known, (len(asked), 1)))
        np.testing.assert_allclose(scores.mean(axis=1), 0.0, atol=2e-3)
        np.testing.assert_allclose(scores.std(axis=1), 1.0, atol=2e-3)


def test_moments_are_those_of_all_scores():
    rng = np.random.default_rng(0)
    items, slots = 40, 3
    embeddings = rng.normal(size=(items, 5)).astype(np.float32)
    trend = rng.normal(size=(slots, items)).astype(np.float32)
    vectors = rng.normal(size=(9, 5)).astype(np.float32)
    vectors[:, -1] = 1.0
    which = rng.integers(0, slots, 9)
    scores = vectors @ embeddings.T + trend[which]
    mean, std = SlotMoments.of(embeddings, trend).scale(vectors, which)
    np.testing.assert_allclose(mean, scores.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(std, scores.std(axis=1), atol=1e-4)
    served = Standardise(CatalogueMoments.of(embeddings)).scale(tf.constant(vectors))
    fixed = vectors @ embeddings.T
    np.testing.assert_allclose(served.mean[:, 0], fixed.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(served.std[:, 0], fixed.std(axis=1), atol=1e-4)


def test_equal_scores_are_standardised_without_dividing_by_zero():
    moments = SlotMoments.of(np.ones((4, 3), np.float32), np.zeros((1, 4), np.float32))
    mean, std = moments.scale(np.ones((1, 3), np.float32), np.zeros(1, int))
    assert mean[0] == pytest.approx(3.0) and std[0] > 0
