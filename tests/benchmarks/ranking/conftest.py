"""A tiny marketplace with candidates drawn at random: no retriever needs to be trained."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("lightgbm", reason="needs the extra `benchmarks`")

WIDTH, LISTS = 25, 80


def served(lists):
    """The lists with their scores; every other one has lost its chosen item."""
    item = lists.item.copy()
    item[1::2, 0] = -1
    return replace(lists, item=item)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A problem of 120 users and 240 items; not to be changed."""
    from benchmarks.jobs import write_json
    from benchmarks.ranking.pages import logged_pages
    from benchmarks.ranking.problem import (
        _SERVED_TRAINING,
        DONE,
        PARTS,
        Part,
        _save,
        _save_lists,
        find_problem,
    )
    from benchmarks.ranking.problem import _load as find_part
    from benchmarks.ranking.unselected import RATING, true_ratings, unselected_pairs
    from benchmarks.retrieval.datasets import prepare
    from interactions.candidates import Candidates, Exposures
    from interactions.queries import Queries
    from interactions.split import RANKING, TEST, VALIDATION
    from tandem.marketplace_truth import find_marketplace

    folder = tmp_path_factory.mktemp("ranking_problem")
    data = prepare("quick", folder, console=Console(quiet=True)).data
    rng = np.random.default_rng(0)
    items = len(data.log.item_ids)
    for name, window in zip(PARTS, (RANKING, VALIDATION, TEST), strict=True):
        queries = data.queries(window)
        queries = queries.take(np.arange(min(LISTS, len(queries))))
        others = [rng.permutation(np.delete(np.arange(items), item)) for item in queries.item]
        some = np.stack(others)[:, :WIDTH].astype(np.int32)
        some[:, 0] = queries.item
        some[::7, -5:] = -1
        score = rng.normal(size=some.shape).astype(np.float32)
        lists = Candidates(queries, some, score, np.zeros_like(score))
        rows = data.windows.rows(window)
        rows = rows[data.log.exposure[rows]]
        shown = Queries(rows, data.log.user[rows], data.log.time[rows], data.log.item[rows])
        labels = {task: values[rows] for task, values in data.labels(window).items()}
        _save(
            folder, name,
            Part(lists, Exposures(shown, np.zeros(len(rows), np.float32), labels)),
        )  # fmt: skip
        if name == "training":
            _save_lists(folder, _SERVED_TRAINING, served(lists))
    market = find_marketplace(data.config.data)
    pages = logged_pages(data, market, find_part(folder, "test").exposures)
    some = np.stack([rng.permutation(items)[:WIDTH] for _ in pages.queries.row]).astype(np.int32)
    score = rng.normal(size=some.shape).astype(np.float32)
    lists = Candidates(pages.queries, some, score, np.zeros_like(score))
    _save(folder, "pages", Part(lists, pages.exposures))
    np.savez(folder / "pages.npz", page=pages.page, propensity=pages.propensity, looks=pages.looks)
    pairs = unselected_pairs(data, data.queries(TEST), seed=0)
    labels = {RATING: true_ratings(data, market, pairs)}
    one = lists.take(np.arange(1))
    zeros = np.zeros(len(pairs), np.float32)
    _save(folder, "unselected", Part(one, Exposures(pairs, zeros, labels)))
    write_json(folder / DONE, {})
    return find_problem(folder)
