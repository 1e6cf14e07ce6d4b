import numpy as np
import pyarrow as pa
import pytest

from features.config import FeaturesConfig
from features.encoders import NumericEncoder
from interactions.config import FeatureConfig


def fitted(values, **config):
    feature = FeatureConfig(name="price", kind="numeric")
    column = pa.chunked_array([pa.array(values, pa.float64())])
    return NumericEncoder.fit(feature, column, config=FeaturesConfig(**config), folder=None)


def places(encoder, values):
    column = pa.chunked_array([pa.array(values, pa.float64())])
    return encoder(encoder.raw(column)).numpy()


def test_the_middle_of_the_distribution_is_zero_and_its_ends_are_one():
    encoder = fitted(np.arange(101.0))
    np.testing.assert_allclose(places(encoder, [0, 50, 100, 25])[:, 0], [-1, 0, 1, -0.5], atol=1e-6)


def test_an_outlier_moves_nobody_else_and_stays_at_the_end():
    values = np.random.default_rng(0).normal(size=1000)
    without = places(fitted(values), values)[:, 0]
    with_one = places(fitted(np.append(values, 1e12)), values)[:, 0]
    # one of 31 steps of [-1, 1] at the most, and next to nothing in the middle
    assert np.abs(without - with_one).max() < 2 / 31 + 1e-3
    assert np.median(np.abs(without - with_one)) < 0.005
    assert places(fitted(values), [1e12, -1e12])[:, 0].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("values", [[7.0] * 20, [], [None, None]])
def test_a_constant_or_empty_column_says_nothing(values):
    encoder = fitted(values)
    assert places(encoder, [7.0, 8.0, -1e9, None]).tolist() == [
        [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0],
    ]  # fmt: skip


def test_what_is_missing_is_said_to_be():
    encoder = fitted([1.0, 2.0, 3.0])
    assert places(encoder, [None, float("nan"), float("inf"), 2.0])[:, 1].tolist() == [1, 1, 1, 0]
    assert places(encoder, [None])[0, 0] == 0.0


def test_numbers_too_close_for_float32_give_no_nan():
    encoder = fitted(1.7e9 + np.arange(200.0), quantiles=32)
    found = places(encoder, 1.7e9 + np.linspace(-50, 250, 400))
    assert np.isfinite(found).all()
    assert found[:, 0].min() == -1.0 and found[:, 0].max() == 1.0


def test_whole_numbers_with_gaps_are_read_as_numbers():
    column = pa.chunked_array([pa.array([1, None, 3], pa.int64())])
    feature = FeatureConfig(name="n", kind="numeric")
    encoder = NumericEncoder.fit(feature, column, config=FeaturesConfig(), folder=None)
    assert encoder(encoder.raw(column)).numpy().tolist() == [[-1, 0], [0, 1], [1, 0]]
