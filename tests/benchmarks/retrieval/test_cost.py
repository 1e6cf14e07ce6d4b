import numpy as np
import pytest

from benchmarks.retrieval.cost import markdown, measure, plot, sizes
from benchmarks.retrieval.cost_cell import PER_USER, Size, generate
from interactions import storage


def test_cells_vary_one_thing_at_a_time():
    assert sizes((10, 100, 1000), (5, 50, 500)) == [
        Size(10, 50), Size(100, 50), Size(1000, 50), Size(100, 5), Size(100, 500),
    ]  # fmt: skip


def test_a_generated_log_is_a_log(tmp_path):
    generate(Size(items=40, events=3_000), tmp_path, seed=1)
    log = storage.load(tmp_path / "log").log
    assert len(log) == 3_000
    assert (np.bincount(log.user) == PER_USER).all()
    assert log.item.min() >= 0 and log.item.max() < len(log.item_ids) == 40
    order = np.lexsort((log.time, log.user))
    np.testing.assert_array_equal(log.time[order], log.time)
    counts = np.sort(np.bincount(log.item, minlength=40))[::-1]
    assert counts[:4].sum() > 0.35 * counts.sum()  # few items are very popular
    assert not (tmp_path / "raw").exists()


@pytest.mark.slow
def test_a_cell_is_measured(tmp_path):
    cost = measure(Size(items=6_000, events=20_000), steps=5)
    assert 0 < cost.idle_mib < cost.own_mib
    assert cost.model_mib > 6_000 * 64 * 4 / 2**20
    assert "6,000 | 20,000" in markdown([cost], steps=5)
    plot([cost], tmp_path / "cost.png")
    assert (tmp_path / "cost.png").exists()
