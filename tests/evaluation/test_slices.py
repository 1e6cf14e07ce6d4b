import numpy as np
import pytest

from evaluation.slices import slice_intervals, slices


def test_new_users_and_cold_items():
    masks = slices(
        np.array([0, 1, -1, 0]),
        history_counts=np.array([0, 3, 0, 1]),
        training_counts=np.array([5, 0]),
    )
    assert masks["new_users"].tolist() == [True, False, True, False]
    # An item that the catalogue does not have is as cold as one without events.
    assert masks["cold_items"].tolist() == [False, True, True, False]


def test_deciles_gather_a_tenth_of_the_events_each():
    counts = np.random.default_rng(0).zipf(1.6, 5000) % 300
    every = np.arange(5000)
    masks = slices(every, history_counts=np.ones(5000), training_counts=counts)
    deciles = [masks[f"popularity_decile_{d:02d}"] for d in range(1, 11)]
    # Every warm item is in one decile, a cold one in none.
    assert (np.sum(deciles, axis=0) == (counts > 0)).all()
    for mask in deciles:
        assert counts[mask].sum() == pytest.approx(counts.sum() / 10, rel=0.5)
    highest = 0
    for mask in deciles:
        assert counts[mask].min() > highest
        highest = counts[mask].max()


def test_items_of_equal_count_are_never_parted():
    masks = slices(np.arange(9), history_counts=np.ones(9), training_counts=np.full(9, 4))
    assert sorted(mask.sum() for name, mask in masks.items() if "decile" in name)[-1] == 9


def test_slices_of_a_catalogue_without_events():
    masks = slices(np.array([0]), history_counts=np.zeros(1), training_counts=np.zeros(2, int))
    assert masks["cold_items"].all()
    assert not any(mask.any() for name, mask in masks.items() if "decile" in name)


def test_a_slice_is_judged_on_its_own_queries():
    values = {"ndcg@10": np.array([1.0, 0.0, 0.5, 0.7])}
    masks = {"first": np.array([True, True, False, False]), "none": np.zeros(4, bool)}
    result = slice_intervals(values, masks, clusters=np.array([1, 2, 3, 4]), seed=0)
    assert result["first"]["ndcg@10"].value == 0.5
    assert result["first"]["ndcg@10"].n == 2
    assert "none" not in result
