from evaluation.bootstrap import Estimate
from evaluation.report import Metrics
from tandem.show import measured

ONE = Estimate(0.5, 0.4, 0.6, 10)


def test_a_metric_that_the_catalogue_is_too_small_for_is_shown_at_a_smaller_k():
    metrics = Metrics({f"retrieval.{name}": ONE for name in ("ndcg@1", "ndcg@5", "mrr@5")})
    assert measured(metrics, ("ndcg@10", "hit_rate@10", "mrr@10")) == ("ndcg@5", "mrr@5")


def test_what_was_measured_is_shown_as_it_is():
    metrics = Metrics({f"oracle.{name}": ONE for name in ("ndcg@5", "ndcg@10", "value_share")})
    assert measured(metrics, ("value_share", "ndcg@10")) == ("value_share", "ndcg@10")
