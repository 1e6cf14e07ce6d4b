"""Tandem's retriever as a contender: the one place here that knows how it is trained."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.retrieval.contender import Contender, Fitted, Point, Settings
from benchmarks.retrieval.problem import K, Problem, mean_ndcg
from interactions.queries import Queries
from interactions.split import VALIDATION
from retrieval.config import RetrievalConfig
from retrieval.model import Retriever
from retrieval.search import Searcher
from retrieval.training import TrainingData, fit_retriever
from tandem.data import Encoded, encode
from tandem.system import FIRST_SHARE
from training.loop import Progression


class Learning:
    """Training on some rows of the problem's log, watched on validation queries."""

    def __init__(
        self,
        problem: Problem,
        rows: np.ndarray,
        *,
        folder: Path,
        validation: Queries | None = None,
    ) -> None:
        """Encode the features as known from `rows` ([n] int64 log rows), into `folder`.

        `validation` are the queries to watch; all of the window, as in `tandem fit`, if left out.
        """
        self.problem, self.rows, self._folder = problem, rows, folder
        self._validation = problem.queries(VALIDATION) if validation is None else validation
        self.encoded: Encoded = encode(problem.data, rows, folder=folder / "features")
        self.curve: list[Point] = []
        self.seconds = 0.0
        """Training time, without validation."""
        self._searcher: Searcher | None = None

    def fit(
        self,
        config: RetrievalConfig,
        *,
        seed: int,
        steps: int | None = None,
        watch: bool = False,
        share: float = 1.0,
    ) -> tuple[Retriever, Progression]:
        """Train until validation no longer improves, with `watch`, or for so many `steps`.

        `share` of the stage's budget of time may be used.
        """
        data = self.problem.data
        started, spent = time.perf_counter(), 0.0

        def validate(retriever: Retriever) -> float:
            nonlocal spent
            paused = time.perf_counter()
            ndcg = self._ndcg(retriever)
            self.curve.append(Point(paused - started - spent, ndcg))
            spent += time.perf_counter() - paused
            return ndcg

        retriever, progression = fit_retriever(
            self.encoded.retriever_inputs,
            TrainingData(data.log, self.rows, self.encoded.context, data.repeats),
            config=config,
            folder=self._folder / "model",
            seed=seed,
            validate=validate if watch else None,
            steps=steps,
            max_minutes=config.max_minutes * share,
        )
        self.seconds = time.perf_counter() - started - spent
        return retriever, progression

    def events(self, progression: Progression) -> int:
        """Return about how many training events were processed: whole epochs of chosen rows."""
        return progression.epoch * int(self.problem.data.log.chosen[self.rows].sum())

    def searcher(self, retriever: Retriever) -> Searcher:
        """Index what the retriever has learnt."""
        return Searcher(
            retriever,
            log=self.problem.data.log,
            context=self.encoded.context,
            seen_rows=self.rows,
        )

    def _ndcg(self, retriever: Retriever) -> float:
        if self._searcher is None:
            self._searcher = self.searcher(retriever)
        else:
            self._searcher.refresh()
        asked = self._validation
        return mean_ndcg(ask(self._searcher, self.problem, asked), asked)


def in_batch(*, encoder: str, batch: int, epochs: int, dim: int) -> RetrievalConfig:
    """Return a config whose only negatives are the other targets of a batch of `batch` events."""
    return RetrievalConfig.model_validate(
        {
            "embedding_dim": dim,
            "encoder": encoder,
            "negatives": {"full_up_to": 0, "in_batch": True, "uniform": 0},
            "batch_events": batch,
            "schedule": {"max_epochs": epochs, "patience": epochs},
        }
    )


def ask(searcher: Searcher, problem: Problem, queries: Queries) -> np.ndarray:
    """Return the lists of queries, [queries, K] int32, -1 where there are no more items."""
    found = searcher.search(queries, k=K, seen=problem.data.seen(queries)).item
    missing = K - found.shape[1]
    return np.pad(found, ((0, 0), (0, missing)), constant_values=-1)


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    """Train as `tandem fit` trains the retriever that it ships."""
    config = problem.data.config.retrieval
    with tempfile.TemporaryDirectory() as folder:
        learning = Learning(problem, problem.rows, folder=Path(folder))
        retriever, progression = learning.fit(config, seed=seed, watch=True, share=1 - FIRST_SHARE)
    searcher = learning.searcher(retriever)
    return Fitted(
        lambda queries, asking: ask(searcher, problem, queries),
        learning.seconds,
        learning.events(progression),
        tuple(learning.curve),
    )


OURS = Contender(
    "Tandem",
    "defaults; trained as `tandem fit` trains the retriever that it ships, on the retrieval and "
    "ranking windows until validation no longer improves",
    _fit,
    seeded=True,
)
