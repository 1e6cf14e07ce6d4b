"""The candidates table: what stands in it, what it estimates, and what it does not betray."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from interactions.candidates import Candidates
from interactions.queries import queries
from retrieval.candidates import sample_candidates

RETRIEVED, NEGATIVES = 40, 24


@pytest.fixture(scope="module")
def asked(world):
    return queries(world.log, world.late, repeats=False)


def sampled(world, asked, *, seed=0, random_share=0.5, retrieved=RETRIEVED, negatives=NEGATIVES):
    return sample_candidates(
        world.searcher, asked, seen=world.histories.seen(asked.row),
        available=world.log.first_seen, retrieved=retrieved, negatives=negatives,
        random_share=random_share, seed=seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(world, asked):
    return sampled(world, asked)


def test_the_chosen_item_is_there_once_and_nothing_that_was_seen_or_had_not_appeared(
    world, asked, table
):
    assert (table.label.sum(axis=1) == 1).all()
    seen = world.histories.seen(asked.row)
    for query, items in enumerate(table.item):
        listed = items[items >= 0]
        assert len(set(listed)) == len(listed)
        out = set(seen.items[seen.offsets[query] : seen.offsets[query + 1]])
        assert not set(listed) & out
        assert (world.log.first_seen[listed] <= asked.time[query]).all()


def test_rows_come_in_the_order_of_items_with_the_padding_last(table):
    for items in table.item:
        listed = items[items >= 0]
        assert (np.diff(listed) > 0).all() and (items[len(listed) :] == -1).all()


def test_every_row_is_scored_as_any_other(world, table):
    np.testing.assert_allclose(
        table.retrieval_score, world.searcher.score(table.queries, table.item), atol=1e-6
    )


def test_no_column_tells_a_rank_or_an_origin(table, tmp_path):
    import pyarrow.parquet as pq

    table.save(tmp_path / "c.parquet")
    assert set(pq.read_schema(tmp_path / "c.parquet").names) == {
        "query", "log_row", "user", "time", "item", "retrieval_score", "log_weight", "label",
    }  # fmt: skip


def test_weights_estimate_the_number_of_items_and_any_sum_over_them(world, asked):
    """Summed with their weights, the negatives stand for all but the seen and the chosen."""
    some = asked.take(np.arange(0, len(asked), 40))
    seen = world.histories.seen(some.row)
    value = np.random.default_rng(5).random(len(world.log.item_ids))
    count, total, draws = 0.0, 0.0, 150
    for seed in range(draws):
        table = sampled(world, some, seed=seed)
        weight = np.exp(table.log_weight) * ((table.item >= 0) & ~table.label)
        count += weight.sum(axis=1) / draws
        total += (weight * value[table.item]).sum(axis=1) / draws
    for query in range(len(some)):
        out = seen.items[seen.offsets[query] : seen.offsets[query + 1]]
        there = np.flatnonzero(world.log.first_seen <= some.time[query])
        there = np.setdiff1d(there, np.append(out, some.item[query]))
        assert count[query] == pytest.approx(len(there), rel=1e-3)
        assert total[query] == pytest.approx(value[there].sum(), rel=0.05)
    assert (table.log_weight[table.label] == 0).all()


def test_an_injected_item_cannot_be_told_from_the_others(world):
    """Where choices are random, so without merit, nothing in the table tells the chosen ones.

    Judged where they would be found out: among the items that the retriever did not retrieve,
    and, with the weights, over the whole catalogue.
    """
    rng = np.random.default_rng(7)
    asked = queries(world.log, world.late, repeats=False)
    seen = world.histories.seen(asked.row)
    items = asked.item.copy()
    for query in range(len(asked)):  # a choice among all that could have been chosen
        out = seen.items[seen.offsets[query] : seen.offsets[query + 1]]
        there = np.flatnonzero(world.log.first_seen <= asked.time[query])
        items[query] = rng.choice(np.setdiff1d(there, out))
    asked = type(asked)(asked.row, asked.user, asked.time, items)
    table = sampled(world, asked)
    retrieved = world.searcher.search(asked, k=RETRIEVED, seen=seen).item
    there = table.item >= 0
    near = np.array([np.isin(a, b) for a, b in zip(table.item, retrieved, strict=True)]) & there
    far = there & ~near
    assert table.label[far].sum() > 200 and table.label[near].sum() > 100
    columns = {
        "score": table.retrieval_score,
        "item": table.item,
        "place": np.broadcast_to(np.arange(table.item.shape[1]), table.item.shape),
    }
    for name, column in columns.items():
        for stratum in (near, far):
            auc = roc_auc_score(table.label[stratum], column[stratum])
            error = 0.5 / np.sqrt(table.label[stratum].sum())
            assert abs(auc - 0.5) < 3 * error, name
        whole = roc_auc_score(
            table.label[there], column[there], sample_weight=np.exp(table.log_weight[there])
        )
        assert abs(whole - 0.5) < 0.05, name


def test_a_small_catalogue_gives_short_lists(world, asked):
    table = sampled(world, asked.take(np.arange(50)), retrieved=500, negatives=400)
    assert (table.label.sum(axis=1) == 1).all()
    assert (table.log_weight[table.item < 0] == 0).all()
    np.testing.assert_allclose(table.log_weight[(table.item >= 0)], 0.0, atol=1e-6)


def test_without_random_ones_all_come_from_the_retrieved(world, asked):
    some = asked.take(np.arange(100))
    table = sampled(world, some, random_share=0.0)
    top = world.searcher.search(some, k=RETRIEVED, seen=world.histories.seen(some.row)).item
    for query in range(len(some)):
        assert set(table.item[query]) - {-1, some.item[query]} <= set(top[query])


def test_saved_and_loaded_it_is_the_same(table, tmp_path):
    table.save(tmp_path / "c.parquet")
    found = Candidates.load(tmp_path / "c.parquet")
    for name in ("item", "retrieval_score", "log_weight", "label"):
        mine, theirs = getattr(table, name), getattr(found, name)
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    for name in ("row", "user", "time", "item"):
        np.testing.assert_array_equal(getattr(table.queries, name), getattr(found.queries, name))


def test_the_same_seed_draws_the_same(world, asked, table):
    np.testing.assert_array_equal(sampled(world, asked).item, table.item)
    assert (sampled(world, asked, seed=1).item != table.item).any()
