"""What every contender is given: candidates and exposures of each window, made once per data set.

    python -m benchmarks.ranking.problem FOLDER

trains the two retrievers of a data set that `datasets.prepare` left in FOLDER, and leaves the
candidates table and the exposures of the ranking, validation and test windows there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.jobs import write_json
from benchmarks.ranking.pages import logged_pages
from benchmarks.ranking.unselected import RATING, true_ratings, unselected_pairs
from benchmarks.retrieval.datasets import find
from benchmarks.retrieval.ours import Learning
from benchmarks.retrieval.problem import Problem as RetrievalProblem
from interactions.candidates import Candidates, Exposures
from interactions.errors import UserError
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION
from retrieval.candidates import sample_candidates
from retrieval.search import Searcher
from tandem.data import Data, Encoded, encode
from tandem.marketplace_truth import find_marketplace
from tandem.system import FIRST_SHARE, candidates_of, exposures_of

DONE = "candidates.json"
_FIRST, _PAGES, _UNSELECTED = "first_retriever", "pages.npz", "unselected"
_SERVED_TRAINING = "training_served"
PARTS = ("training", "validation", "test")
_WINDOWS = {"training": RANKING, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Part:
    """Candidate lists and exposures of one window."""

    candidates: Candidates
    exposures: Exposures


@dataclass(frozen=True)
class Pages:
    """Logged pages of the test window, where propensities are known."""

    part: Part
    """A candidate list per page, and everything that was shown on the pages."""
    page: np.ndarray
    """[exposures] int64: the page of each."""
    propensity: np.ndarray
    """[exposures] float64."""
    looks: np.ndarray
    """[exposures] float64: the true probability that the place was looked at."""


@dataclass(frozen=True)
class Problem:
    """The log's windows and the candidates that every contender orders."""

    data: Data
    folder: Path

    @cached_property
    def training(self) -> Part:
        """Of the ranking window, by the retriever of the retrieval window: sampled lists."""
        return _load(self.folder, "training")

    @cached_property
    def served_training(self) -> Candidates:
        """Lists of the ranking window as the same retriever would serve them, nothing put in.

        For losses that cannot weigh a sample of the other items as `training` has it. Raises
        `UserError` in a folder that was made before there were any.
        """
        if not _lists_file(self.folder, _SERVED_TRAINING).exists():
            raise UserError(
                f"{self.folder} has no lists as served of the ranking window; make them with "
                f"python -m benchmarks.ranking.problem {self.folder}"
            )
        return _load_lists(self.folder, _SERVED_TRAINING)

    @cached_property
    def validation(self) -> Part:
        """Of the validation window, by the retriever of both: lists as served."""
        return _load(self.folder, "validation")

    @cached_property
    def test(self) -> Part:
        """Of the test window, made alike."""
        return _load(self.folder, "test")

    @cached_property
    def pages(self) -> Pages | None:
        """Of the test window; None where no propensities are known."""
        if not (self.folder / _PAGES).exists():
            return None
        with np.load(self.folder / _PAGES, allow_pickle=False) as stored:
            arrays = dict(stored)
        return Pages(_load(self.folder, "pages"), **arrays)

    @cached_property
    def unselected(self) -> Part | None:
        """Random pairs of the test window with their true ratings, None where they are not known.

        The part's one candidate list means nothing.
        """
        known = (self.folder / f"{_UNSELECTED}_exposures.npz").exists()
        return _load(self.folder, _UNSELECTED) if known else None

    @cached_property
    def encoded(self) -> Encoded:
        """Features as known from the retrieval window."""
        rows = self.data.windows.rows(RETRIEVAL)
        return encode(self.data, rows, folder=self.folder / _FIRST / "features")


def find_problem(folder: Path) -> Problem:
    """Return the problem that `main` left in `folder`; raises `UserError` where it did not."""
    if not (folder / DONE).exists():
        raise UserError(
            f"{folder} has no candidates; run benchmarks.ranking.compare, not its parts"
        )
    return Problem(find(folder, console=Console(quiet=True)).data, folder)


def make_problem(folder: Path, *, console: Console) -> None:
    """Train both retrievers as `tandem fit` does, and write every window's candidates.

    Retrievers that were trained in `folder` before are restored.
    """
    data = find(folder, console=console).data
    market = find_marketplace(data.config.data)
    if market is not None and data.log.propensity is None:
        raise UserError(f"{folder} was prepared by an earlier version; name another --out")
    windows, seed = data.windows, data.config.seed
    first = _searcher(data, windows.rows(RETRIEVAL), folder=folder / _FIRST, share=FIRST_SHARE)
    ranking = data.config.ranking
    queries = data.queries(RANKING)
    table = sample_candidates(
        first,
        queries,
        seen=data.seen(queries),
        available=data.log.first_seen,
        retrieved=ranking.candidates,
        negatives=ranking.negatives,
        random_share=ranking.random_share,
        seed=seed,
    )
    _save(folder, "training", Part(table, exposures_of(data, first, RANKING)))
    _save_lists(folder, _SERVED_TRAINING, candidates_of(data, first, queries))
    final = _searcher(
        data,
        windows.rows(RETRIEVAL, RANKING),
        folder=folder / "retriever",
        share=1 - FIRST_SHARE,
    )
    for name in ("validation", "test"):
        window = _WINDOWS[name]
        lists = candidates_of(data, final, data.queries(window))
        _save(folder, name, Part(lists, exposures_of(data, final, window)))
    if market is not None:
        pages = logged_pages(data, market, _load(folder, "test").exposures)
        lists = candidates_of(data, final, pages.queries)
        _save(folder, "pages", Part(lists, pages.exposures))
        np.savez(folder / _PAGES, page=pages.page, propensity=pages.propensity, looks=pages.looks)
        asked = data.queries(TEST)
        pairs = unselected_pairs(data, asked, seed=data.config.seed)
        score = final.score(pairs, pairs.item[:, np.newaxis])[:, 0]
        labels = {RATING: true_ratings(data, market, pairs)}
        one = candidates_of(data, final, asked.take(np.arange(1)))
        _save(folder, _UNSELECTED, Part(one, Exposures(pairs, score, labels)))
    sizes = {name: len(_load(folder, name).candidates.queries) for name in PARTS}
    write_json(folder / DONE, sizes)


def _searcher(data: Data, rows: np.ndarray, *, folder: Path, share: float) -> Searcher:
    learning = Learning(RetrievalProblem(data), rows, folder=folder)
    retriever, _ = learning.fit(
        data.config.retrieval, seed=data.config.seed, watch=True, share=share
    )
    return learning.searcher(retriever)


def _save(folder: Path, name: str, part: Part) -> None:
    _save_lists(folder, name, part.candidates)
    shown = part.exposures
    labels: dict[str, Any] = {f"label_{task}": values for task, values in shown.labels.items()}
    np.savez(
        folder / f"{name}_exposures.npz",
        score=shown.retrieval_score,
        **_columns(shown.queries),
        **labels,
    )


def _save_lists(folder: Path, name: str, lists: Candidates) -> None:
    np.savez(
        _lists_file(folder, name),
        item=lists.item,
        score=lists.retrieval_score,
        log_weight=lists.log_weight,
        **_columns(lists.queries),
    )


def _lists_file(folder: Path, name: str) -> Path:
    return folder / f"{name}_candidates.npz"


def _columns(queries: Queries) -> dict[str, Any]:
    return {f"query_{name}": values for name, values in vars(queries).items()}


def _queries(stored: Mapping[str, np.ndarray]) -> Queries:
    return Queries(**{name: stored[f"query_{name}"] for name in ("row", "user", "time", "item")})


def _load_lists(folder: Path, name: str) -> Candidates:
    with np.load(_lists_file(folder, name), allow_pickle=False) as stored:
        return Candidates(_queries(stored), stored["item"], stored["score"], stored["log_weight"])


def _load(folder: Path, name: str) -> Part:
    with np.load(folder / f"{name}_exposures.npz", allow_pickle=False) as stored:
        labels = {
            key.removeprefix("label_"): stored[key] for key in stored if key.startswith("label_")
        }
        exposures = Exposures(_queries(stored), stored["score"], labels)
    return Part(_load_lists(folder, name), exposures)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    try:
        make_problem(parser.parse_args().folder, console=Console(quiet=True))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
