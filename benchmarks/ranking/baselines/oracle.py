"""The order of who knows the generated marketplace: what no recommender can do better."""

from __future__ import annotations

from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from benchmarks.ranking.truth import Truth


def _fit(problem: Problem, seed: int, quick: bool) -> Fitted:
    def answer(part: Part) -> Answers:
        truth = Truth.of(problem, part.candidates)
        assert truth is not None, "asked only where the truth is known"
        return Answers(order=truth.buys)

    return Fitted(answer)


ORACLE = Contender(
    "oracle", "by the true chance that an item is viewed and bought", _fit, needs_truth=True
)
