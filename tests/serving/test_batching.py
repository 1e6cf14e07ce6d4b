"""Joining and splitting as TF Serving's BatchingSession does it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.admission import Admission, Limits
from serving.batching import BatchingRunner, count_rows, join, padding_for, split
from serving.batching_parameters import BatchingParameters
from serving.errors import ServingError

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION


class Doubler:
    """Doubles `x`; keeps what it was given."""

    def __init__(self):
        self.seen = []
        self.closed = False

    def run(self, inputs, *, deadline=None):
        self.seen.append(inputs["x"])
        return {"y": inputs["x"] * 2, "rows": np.arange(len(inputs["x"]))}

    def close(self):
        self.closed = True


class Observer:
    def __init__(self):
        self.batches = []

    def batch(self, *, rows, padding, waiting):
        self.batches.append((list(rows), padding))


def ask_together(parameters, *arrays):
    """Ask with each array from a thread of its own, so that all are joined; answers or errors."""
    doubler, observer = Doubler(), Observer()
    runner = BatchingRunner(
        doubler, admission=Admission(Limits(runs=1)), parameters=parameters, observer=observer
    )
    admission = runner._admission

    def ask(array):
        try:
            return runner.run({"x": array})
        except ServingError as error:
            return error

    with ThreadPoolExecutor(len(arrays)) as pool:
        futures = []
        for place, array in enumerate(arrays):
            futures.append(pool.submit(ask, array))
            while place + 1 < len(arrays) and admission.waiting <= place:
                time.sleep(0.001)
        return [future.result(10) for future in futures], doubler, observer


def refused(call, code):
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


def test_requests_are_joined_and_answers_split():
    one, two = np.array([[1.0]]), np.array([[2.0], [3.0]])
    parameters = BatchingParameters(max_batch_size=3, batch_timeout_micros=5_000_000)
    answers, doubler, observer = ask_together(parameters, one, two)
    assert [answer["y"].tolist() for answer in answers] == [[[2.0]], [[4.0], [6.0]]]
    assert [answer["rows"].tolist() for answer in answers] == [[0], [1, 2]]
    assert [array.tolist() for array in doubler.seen] == [[[1.0], [2.0], [3.0]]]
    assert observer.batches == [([1, 2], 0)]


def test_a_batch_is_filled_up_to_an_allowed_size_and_nobody_sees_it():
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    answers, doubler, observer = ask_together(parameters, np.array([5, 6, 7]))
    assert answers[0]["y"].tolist() == [10, 12, 14]
    assert len(doubler.seen[0]) == 4 and doubler.seen[0][3] in (5, 6, 7)
    assert observer.batches == [([3], 1)]


def test_larger_requests_than_a_batch_are_refused():
    (error,), doubler, _ = ask_together(BatchingParameters(max_batch_size=2), np.arange(3))
    assert error.code == INVALID
    assert str(error) == "Task size 3 is larger than maximum input batch size 2"
    assert doubler.seen == []


def test_inner_dimensions_that_differ_fail_all_that_are_joined():
    parameters = BatchingParameters(max_batch_size=2, batch_timeout_micros=5_000_000)
    answers, doubler, _ = ask_together(parameters, np.ones((1, 2)), np.ones((1, 3)))
    assert [error.code for error in answers] == [PRECONDITION] * 2
    assert "'x' from different tasks have different shapes" in str(answers[0])
    assert doubler.seen == []


def test_inner_dimensions_are_padded_with_the_first_element_when_asked():
    parameters = BatchingParameters(
        max_batch_size=3, batch_timeout_micros=5_000_000, pad_variable_length_inputs=True
    )
    wide = np.array([[b"a", b"b", b"c"]], object)
    narrow = np.array([[b"d"], [b"e"]], object)
    joined = join([{"x": wide}, {"x": narrow}], pad_inner=True)["x"]
    assert joined.tolist() == [[b"a", b"b", b"c"], [b"d", b"d", b"d"], [b"e", b"d", b"d"]]
    answers, _, _ = ask_together(parameters, np.ones((1, 3)), np.full((2, 1), 4.0))
    assert answers[1]["y"].tolist() == [[8.0] * 3] * 2
    answers, _, _ = ask_together(parameters, np.ones((2, 3)), np.ones((1, 0)))
    assert [error.code for error in answers] == [INVALID] * 2
    assert str(answers[0]) == "Got empty tensor in batch of non-empty tensors."


def test_a_tensor_of_width_zero_alone_is_no_matter():
    answers, _, _ = ask_together(BatchingParameters(), np.ones((2, 0)))
    assert answers[0]["y"].shape == (2, 0)


def test_no_rows_join_with_some():
    joined = join([{"x": np.ones((2, 1))}, {"x": np.ones((0, 1))}], padding=2)["x"]
    assert joined.tolist() == [[1.0]] * 4
    assert split({"y": joined}, rows=[2, 0], padding=2)[1]["y"].shape == (0, 1)
    assert join([{"x": np.ones((0, 1))}], padding=2)["x"].shape == (0, 1)


def test_refusals_of_inputs():
    assert "at least one input" in refused(lambda: count_rows({}), INVALID)
    assert "at least one dimension" in refused(lambda: count_rows({"x": np.array(1)}), INVALID)
    text = refused(lambda: count_rows({"x": np.ones(2), "z": np.ones(3)}), INVALID)
    assert text == "Batching Run() input tensors must have equal 0th-dimension size"
    ranks = [{"x": np.ones((1, 2))}, {"x": np.ones((1, 2, 2))}]
    refused(lambda: join(ranks, pad_inner=True), INVALID)


def test_refusals_of_outputs():
    text = refused(lambda: split({"y": np.array(1.0)}, rows=[1]), PRECONDITION)
    assert text == "Batched output tensor has 0 dimensions"
    text = refused(lambda: split({"y": np.ones(3)}, rows=[1, 1]), PRECONDITION)
    assert "does not equal the sum" in text


@pytest.mark.parametrize(("rows", "missing"), [(0, 2), (1, 1), (2, 0), (3, 5), (8, 0), (9, 0)])
def test_padding_goes_to_the_next_allowed_size(rows, missing):
    assert padding_for(rows, (2, 8)) == missing
    assert padding_for(rows, ()) == 0


def test_closing_closes_the_runner_within():
    doubler = Doubler()
    runner = BatchingRunner(
        doubler, admission=Admission(Limits(runs=1)), parameters=BatchingParameters()
    )
    runner.close()
    assert doubler.closed


def test_many_threads_get_their_own_rows():
    runner = BatchingRunner(
        Doubler(), admission=Admission(Limits(runs=2, waiting=64)),
        parameters=BatchingParameters(max_batch_size=16, allowed_batch_sizes=(1, 4, 16)),
    )  # fmt: skip
    barrier = threading.Barrier(24)

    def ask(number):
        rng = np.random.default_rng(number)
        barrier.wait()
        for _ in range(40):
            x = rng.normal(size=(rng.integers(1, 4), 3))
            np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x)
        return True

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(ask, range(24)))
