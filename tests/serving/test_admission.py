"""Turns, lines and deadlines, with runs that end when the test says so."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from serving.admission import Admission, Limits, Line, asker_is_there
from serving.errors import ServingError, invalid_argument


class Gate:
    """A run that waits until it is opened, and remembers what ran together."""

    def __init__(self):
        self.open = threading.Event()
        self.runs = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, requests):
        with self._lock:
            self.runs.append([int(inputs["x"][0]) for inputs in requests])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.open.wait(20)
        with self._lock:
            self.at_once -= 1
        return [{"y": inputs["x"] * 10} for inputs in requests]


def inputs(number):
    return {"x": np.array([number])}


@contextmanager
def asking(admission, line, numbers, **options):
    """Ask from one thread each, in order, while the block runs; gives futures."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        futures = []
        for number in numbers:
            before = admission.waiting, len(line.run_together.runs)
            futures.append(pool.submit(admission.run, line, inputs(number), **options))
            until(lambda before=before: (admission.waiting, len(line.run_together.runs)) != before)
        yield futures


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.001)


def refused(call, code):
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def test_everyone_gets_the_own_answer_and_runs_are_bounded(gate):
    admission = Admission(Limits(runs=2, waiting=20))
    gate.open.set()
    line = Line(gate)
    with ThreadPoolExecutor(10) as pool:
        answers = pool.map(lambda n: admission.run(line, inputs(n))["y"].item(), range(50))
        answers = list(answers)
    assert answers == [10 * n for n in range(50)]
    assert gate.most_at_once <= 2
    assert admission.waiting == 0


def test_turns_go_in_the_order_of_arrival_across_lines(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    first, second = Line(gate), Line(gate)
    with (
        asking(admission, first, [0]),
        asking(admission, first, [1]),
        asking(admission, second, [2]),
        asking(admission, first, [3]),
    ):
        gate.open.set()
    assert gate.runs == [[0], [1], [2], [3]]


def test_an_overfull_line_refuses_at_once_and_takes_more_when_it_is_short_again(gate):
    admission = Admission(Limits(runs=1, waiting=2))
    line = Line(gate)
    with asking(admission, line, [0, 1, 2]) as futures:
        started = time.monotonic()
        text = refused(lambda: admission.run(line, inputs(3)), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert time.monotonic() - started < 0.5
        assert "2 requests are waiting" in text
        gate.open.set()
        assert [future.result(5)["y"].item() for future in futures] == [0, 10, 20]
    assert admission.run(line, inputs(4))["y"].item() == 40


def test_a_deadline_that_has_passed_is_not_run(gate):
    gate.open.set()
    admission = Admission(Limits(runs=1))
    refused(
        lambda: admission.run(Line(gate), inputs(1), deadline=time.monotonic()),
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    assert gate.runs == []


def test_a_request_whose_turn_comes_too_late_is_answered_in_time_and_never_run(gate):
    admission = Admission(Limits(runs=1, waiting=5))
    line = Line(gate)
    with asking(admission, line, [0]):
        started = time.monotonic()
        refused(
            lambda: admission.run(line, inputs(1), deadline=started + 0.05),
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
        assert 0.04 < time.monotonic() - started < 1
        assert admission.waiting == 0
        gate.open.set()
    assert gate.runs == [[0]]


def test_those_who_wait_run_together_up_to_the_most_rows(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    line = Line(gate, most_rows=3)
    with asking(admission, line, [0, 1, 2, 3, 4]) as futures:
        gate.open.set()
        assert [future.result(5)["y"].item() for future in futures] == [0, 10, 20, 30, 40]
    assert gate.runs == [[0], [1, 2, 3], [4]]


def test_rows_count_and_requests_are_never_torn_apart(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    line = Line(gate, most_rows=4)
    with (
        asking(admission, line, [0]),
        asking(admission, line, [1, 2, 3], rows=2),
        asking(admission, line, [4], rows=3),
    ):
        gate.open.set()
    assert gate.runs == [[0], [1, 2], [3], [4]]


def test_who_is_late_while_others_run_the_request_leaves_without_the_answer(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    line = Line(gate, most_rows=2)
    gates = [Gate(), gate]
    line.run_together = lambda requests: gates[0 if len(requests) == 1 else 1](requests)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(admission.run, line, inputs(0))
        until(lambda: gates[0].runs)
        leader = pool.submit(admission.run, line, inputs(1))
        until(lambda: admission.waiting == 1)
        late = pool.submit(admission.run, line, inputs(2), deadline=time.monotonic() + 0.2)
        until(lambda: admission.waiting == 2)
        gates[0].open.set()
        until(lambda: gate.runs == [[1, 2]])
        refused(lambda: late.result(5), grpc.StatusCode.DEADLINE_EXCEEDED)
        gate.open.set()
        assert leader.result(5)["y"].item() == 10
        assert first.result(5)["y"].item() == 0


def test_patience_waits_for_others_but_no_longer_than_it_must(gate):
    gate.open.set()
    admission = Admission(Limits(runs=4, waiting=20))
    line = Line(gate, most_rows=2, patience=0.3)
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: admission.run(line, inputs(n)), [0, 1]))
    assert time.monotonic() - started < 0.25
    assert sorted(gate.runs[0]) == [0, 1]
    started = time.monotonic()
    admission.run(line, inputs(2))
    assert 0.29 < time.monotonic() - started < 1
    assert gate.runs[1:] == [[2]]


def test_patience_that_ends_while_all_turns_are_taken(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    line = Line(gate, most_rows=8, patience=0.02)
    with asking(admission, line, [0]):
        until(lambda: gate.runs)
        with asking(admission, line, [1, 2]) as futures:
            time.sleep(0.05)
            gate.open.set()
            assert [future.result(5)["y"].item() for future in futures] == [10, 20]
    assert gate.runs == [[0], [1, 2]]


def test_a_line_with_too_many_rows_refuses(gate):
    admission = Admission(Limits(runs=1, waiting=20))
    line = Line(gate, most_rows=2, most_waiting_rows=2)
    with asking(admission, line, [0, 1, 2]):
        text = refused(lambda: admission.run(line, inputs(3)), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "queue" in text and "full" in text
        gate.open.set()


def test_a_failure_reaches_all_that_ran_together_and_the_turn_goes_on(gate):
    def fail(requests):
        gate(requests)
        raise invalid_argument("no such thing")

    admission = Admission(Limits(runs=1, waiting=20))
    held, failing = Line(gate), Line(fail, most_rows=8)
    with asking(admission, held, [0]), ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(admission.run, failing, inputs(n)) for n in (1, 2)]
        until(lambda: admission.waiting == 2)
        gate.open.set()
        errors = [future.exception(5) for future in futures]
    assert [str(error) for error in errors] == ["no such thing"] * 2
    assert errors[0] is not errors[1]
    assert admission.run(held, inputs(5))["y"].item() == 50


def test_who_has_gone_is_not_run_and_takes_no_place(gate):
    there = threading.Event()
    there.set()

    def ask(number):
        asker_is_there.set(there.is_set)
        return admission.run(line, inputs(number))

    admission = Admission(Limits(runs=1, waiting=2))
    line = Line(gate)
    with asking(admission, line, [0]) as first, ThreadPoolExecutor(2) as pool:
        gone = [pool.submit(ask, number) for number in (1, 2)]
        until(lambda: admission.waiting == 2)
        there.clear()
        with asking(admission, line, [3]) as last:
            codes = {future.exception(5).code for future in gone}
            gate.open.set()
            assert [first[0].result(5)["y"].item(), last[0].result(5)["y"].item()] == [0, 30]
    assert codes == {grpc.StatusCode.CANCELLED}
    assert gate.runs == [[0], [3]]


def test_a_storm_leaves_nobody_behind():
    """Random lines, rows, deadlines and patience: everyone is answered once, turns come back."""
    admission = Admission(Limits(runs=2, waiting=6))
    rng = np.random.default_rng(7)

    def run(requests):
        time.sleep(0.0005)
        return [{"y": inputs["x"] * 10} for inputs in requests]

    lines = [Line(run), Line(run, most_rows=4), Line(run, most_rows=4, patience=0.001)]
    plans = [
        (lines[rng.integers(3)], int(n), float(rng.choice([0.0005, 0.01, 10.0])))
        for n in range(1500)
    ]

    def ask(plan):
        line, number, seconds = plan
        try:
            answer = admission.run(line, inputs(number), deadline=time.monotonic() + seconds)
        except ServingError as error:
            return error.code
        assert answer["y"].item() == 10 * number
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(12) as pool:
        codes = set(pool.map(ask, plans))
    assert codes <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert grpc.StatusCode.OK in codes
    assert admission.waiting == 0
    gates = Gate()
    free = Line(gates)
    with asking(admission, free, [1, 2]):
        until(lambda: gates.at_once == 2)
        gates.open.set()


def test_who_could_not_be_answered_in_time_is_left_out_for_those_who_can():
    """Otherwise everyone in a long queue is run just too late, and nobody is answered."""

    took = 0.05

    def run_together(asked):
        time.sleep(took)
        return asked

    admission, line = Admission(Limits(runs=1, waiting=500)), Line(run_together)
    admission.run(line, {})
    answered = []

    def ask():
        began = time.monotonic()
        try:
            admission.run(line, {}, deadline=began + 0.4)
        except ServingError:
            return
        answered.append(time.monotonic() - began)

    threads = []
    for _ in range(100):
        threads.append(threading.Thread(target=ask))
        threads[-1].start()
        time.sleep(took / 5)
    for thread in threads:
        thread.join()
    # a second of runs at 20 a second, asked for at 100 a second
    assert len(answered) >= 10 and max(answered) < 0.45
