import json

import pytest

from benchmarks.jobs import write_json
from benchmarks.retrieval import contest, report, results
from benchmarks.retrieval.contenders import contender
from evaluation.baselines import top_k
from interactions.split import TEST


@pytest.fixture(scope="module")
def judged(tiny, tmp_path_factory):
    """Popularity and EASE judged by `contest`; the others' lists would look the same."""
    folder = tmp_path_factory.mktemp("judged")
    for name in ("popularity", "ease"):
        (folder / name).mkdir()
        choice = contest.tune(tiny, contender(name))
        write_json(folder / name / "choice.json", vars(choice))
        contest.judge(tiny, contender(name), choice, seed=0, path=folder / name / "seed-0.json")
    return results.compare("quick", tiny, folder=folder, models=["popularity", "ease"], seeds=3)


def test_a_metric_is_that_of_the_lists(tiny, judged):
    queries = tiny.queries(TEST)
    ranked = top_k(
        tiny.popularity, k=10, times=queries.time, seen=tiny.data.seen(queries),
        available_from=tiny.data.log.first_seen,
    )  # fmt: skip
    found = (ranked == queries.item[:, None]).any(axis=1).mean()
    popularity = judged.results[0].estimates["recall@10"]
    assert popularity.value == pytest.approx(found)
    assert popularity.low <= popularity.value <= popularity.high


def test_cold_queries_are_those_of_untrained_items(tiny, judged):
    queries = tiny.queries(TEST)
    assert judged.cold_queries == (tiny.popularity[queries.item] == 0).sum()
    assert judged.results[0].cold is None or judged.results[0].cold.n == judged.cold_queries


def test_what_does_not_depend_on_the_seed_is_judged_once(judged):
    assert [len(result.runs) for result in judged.results] == [1, 1]


def test_costs_are_real(judged):
    for result in judged.results:
        run = result.runs[0]
        assert run.idle_mib > 0 and run.peak_mib > 0.9 * run.idle_mib
        assert run.evaluation_queries / run.evaluation_seconds > 1


def test_pairs_are_on_the_same_queries(tiny, judged):
    by_name = {result.name: result for result in judged.results}
    pairs = results._pairs({"tandem": by_name["ease"], **by_name}, tiny.queries(TEST))
    assert pairs["ease"]["ndcg@10"].ratio.value == pytest.approx(1.0)
    assert pairs["ease"]["ndcg@10"].difference.low == pytest.approx(0.0)
    other = pairs["popularity"]["recall@100"]
    ours, theirs = (by_name[name].per_query["recall@100"] for name in ("ease", "popularity"))
    assert other.ratio.value == pytest.approx(ours.sum() / theirs.sum())
    assert other.difference.value == pytest.approx((ours - theirs).mean())


def test_the_report_has_a_line_per_contender(judged, tmp_path):
    text = report.markdown(judged)
    for result in judged.results:
        assert text.count(f"| {result.title} |") == 2  # quality and cost
        assert f"{result.estimates['ndcg@10'].value:.4f}" in text
    assert "chosen of 6: regularization" in text
    plain = json.dumps(report.as_json(judged), allow_nan=False)
    assert json.loads(plain)["results"][1]["choice"]["training"]
    report.plot([judged], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
