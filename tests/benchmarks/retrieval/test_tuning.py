import numpy as np

from benchmarks.retrieval import contest
from benchmarks.retrieval.contender import Contender, Fitted, grid
from interactions.split import TEST, VALIDATION


def oracle(tiny, asked):
    """A contender that knows the answer where `good` and `sharp` are set."""

    def fit(problem, settings, seed):
        def rank(queries, asking):
            asked.append(queries)
            known = settings["good"] and asking["sharp"]
            right = queries.item if known else np.full(len(queries), -1)
            return np.pad(right[:, None], ((0, 0), (0, 199)), constant_values=-1)

        return Fitted(rank, 0.0, 1)

    return Contender(
        "oracle", "", fit, training=grid(good=(False, True)), asking=grid(sharp=(False, True, 0))
    )


def test_the_best_pair_on_validation_is_chosen_and_test_is_not_looked_at(tiny):
    asked = []
    choice = contest.tune(tiny, oracle(tiny, asked))
    assert choice.training == {"good": True} and choice.asking == {"sharp": True}
    assert len(choice.tried) == 6
    assert max(one["ndcg@10"] for one in choice.tried) == 1.0
    rows = np.unique(np.concatenate([queries.row for queries in asked]))
    assert (tiny.data.windows.window[rows] == VALIDATION).all()


def test_the_test_window_is_judged_with_the_choice(tiny, tmp_path):
    asked = []
    subject = oracle(tiny, asked)
    choice = contest.tune(tiny, subject)
    asked.clear()
    contest.judge(tiny, subject, choice, seed=4, path=tmp_path / "seed-4.json")
    assert (tiny.data.windows.window[asked[0].row] == TEST).all()
    lists = contest.read_lists(tmp_path, 4)
    np.testing.assert_array_equal(lists[:, 0], tiny.queries(TEST).item)
