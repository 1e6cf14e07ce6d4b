"""A moving average of weights."""

import numpy as np
import pytest

from features.backend import tf
from training.average import WeightAverage, weight_average
from training.config import ScheduleConfig


def walk(length, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(length, size)).astype(np.float32).cumsum(0)


def averaged(average, variable, step):
    with average.in_place(step):
        return variable.numpy()


def expected(values, start, momentum):
    mean = start
    for step, value in enumerate(values, 1):
        now = min(momentum, (1 + step) / (10 + step))
        mean = now * mean + (1 - now) * value
    return mean


@pytest.mark.parametrize("length", [1, 5, 200])
def test_it_is_the_exponential_average_of_the_weights_after_each_step(length):
    variable = tf.Variable([1.0, 2.0, 3.0])
    average = WeightAverage([variable], momentum=0.95)
    values = walk(length)
    for step, value in enumerate(values, 1):
        variable.assign(value)
        average.update(step)
    wanted = expected(values, np.array([1.0, 2.0, 3.0]), 0.95)
    np.testing.assert_allclose(averaged(average, variable, length), wanted, rtol=1e-4, atol=1e-4)
    assert (variable.numpy() == values[-1]).all()


def test_a_large_model_is_averaged_now_and_then_to_nearly_the_same():
    size, length, momentum = 1_000_000, 400, 0.99
    variable = tf.Variable(tf.zeros([size]))
    average = WeightAverage([variable], momentum=momentum)
    assert 1 < average.every < 20
    # a line with a little noise, the same in every weight
    values = np.arange(1, length + 1) * 0.01 + walk(length, size=1)[:, 0] * 0.001
    for step, value in enumerate(values, 1):
        variable.assign(tf.fill([size], np.float32(value)))
        average.update(step)
    found = averaged(average, variable, length)
    assert (found == found[0]).all()
    # the average lags a line by about 100 steps of 0.01; that is kept to a few steps
    assert found[0] == pytest.approx(expected(values, 0.0, momentum), abs=0.03)


def test_the_raw_weights_come_back_bit_by_bit_also_after_a_failure():
    variables = [tf.Variable(walk(4)), tf.Variable(walk(5, seed=1))]
    average = WeightAverage(variables, momentum=0.9)
    for variable in variables:
        variable.assign_add(tf.ones_like(variable) / 3)
    raw = [variable.numpy() for variable in variables]
    with pytest.raises(RuntimeError), average.in_place(7):
        assert not (variables[0].numpy() == raw[0]).all()
        raise RuntimeError
    assert all((v.numpy() == r).all() for v, r in zip(variables, raw, strict=True))
    first = averaged(average, variables[0], 7)
    assert (averaged(average, variables[0], 7) == first).all()


def test_restored_it_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    values = walk(30)
    runs = []
    for stop in (None, 13):
        variable = tf.Variable(values[0])
        average = WeightAverage([variable], momentum=0.9)
        for step, value in enumerate(values, 1):
            variable.assign(value)
            average.update(step)
            if step == stop:
                path = average.state.save(str(tmp_path / "average"))
                average = WeightAverage([variable], momentum=0.9)
                average.state.restore(path).assert_consumed()
        runs.append(averaged(average, variable, len(values)))
    assert (runs[0] == runs[1]).all()


def test_without_a_momentum_there_is_none():
    variable = tf.Variable([1.0])
    assert weight_average([variable], config=ScheduleConfig()) is None
    assert weight_average([variable], config=ScheduleConfig(average=0.5)) is not None
