import pytest

from benchmarks.retrieval.contender import Fitted, Point
from benchmarks.retrieval.speed import _reached


def curve(*values):
    return tuple(Point(10.0 * (n + 1), value) for n, value in enumerate(values))


def test_the_time_is_that_of_the_first_epoch_that_is_good_enough():
    tutorial = Fitted(lambda queries, asking: queries, 0.0, 0, curve(0.1, 0.3, 0.2))
    reached = _reached(512, tutorial, [Point(1.0, 0.2), Point(2.0, 0.31), Point(3.0, 0.5)])
    assert (reached.ndcg, reached.tutorial_seconds) == (0.3, 20.0)
    assert (reached.our_ndcg, reached.our_seconds, reached.ratio) == (0.31, 2.0, 10.0)


def test_what_is_never_reached_has_no_time():
    tutorial = Fitted(lambda queries, asking: queries, 0.0, 0, curve(0.3))
    reached = _reached(512, tutorial, [Point(1.0, 0.2), Point(2.0, 0.1)])
    assert reached.our_seconds is None and reached.ratio == 0.0 and reached.our_ndcg == 0.2


@pytest.mark.slow
def test_all_three_are_measured(tiny):
    from rich.console import Console

    from benchmarks.retrieval.speed import ENCODERS, markdown, measure

    speed = measure("quick", tiny, batches=[512], epochs=1, console=Console(quiet=True))
    assert set(speed.throughput[0].ours) == set(ENCODERS)
    assert min(*speed.throughput[0].ours.values(), speed.throughput[0].tutorial) > 0
    assert speed.tutorial_evaluation.seconds > 0 and speed.our_evaluation.seconds > 0
    assert markdown(speed).count("Tandem") >= 3
