import io

from rich.console import Console

from evaluation.bootstrap import Estimate
from evaluation.report import Metrics
from serving.answers import Recommendations, RecommendedItem
from tandem.show import measured, recommendations_table

ONE = Estimate(0.5, 0.4, 0.6, 10)


def test_a_metric_that_the_catalogue_is_too_small_for_is_shown_at_a_smaller_k():
    metrics = Metrics({f"retrieval.{name}": ONE for name in ("ndcg@1", "ndcg@5", "mrr@5")})
    assert measured(metrics, ("ndcg@10", "hit_rate@10", "mrr@10")) == ("ndcg@5", "mrr@5")


def test_what_was_measured_is_shown_as_it_is():
    metrics = Metrics({f"oracle.{name}": ONE for name in ("ndcg@5", "ndcg@10", "value_share")})
    assert measured(metrics, ("value_share", "ndcg@10")) == ("value_share", "ndcg@10")


def shown(*items):
    told = io.StringIO()
    Console(file=told, width=120).print(recommendations_table(Recommendations("u1", items)))
    return told.getvalue()


def test_tasks_have_their_columns_in_one_order_whatever_the_answers():
    tasks = {"view": 0.2, "buy": 0.1, "rating": 4.0}
    one, other = (
        RecommendedItem("i1", 1.0, 2.0, dict(some))
        for some in (tasks.items(), sorted(tasks.items()))
    )
    assert shown(one) == shown(other)
    assert shown(one).index("buy") < shown(one).index("rating") < shown(one).index("view")


def test_an_empty_list_says_why():
    assert "none; all was chosen before, or no item meets" in " ".join(shown().split())
