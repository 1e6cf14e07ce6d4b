"""Encoders hold what they promise for any column."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import FeaturesConfig
from features.encoders import CategoricalEncoder, NumericEncoder
from interactions.config import FeatureConfig

numbers = st.floats(-(2.0**100), 2.0**100, width=32)
words = st.text(
    st.characters(exclude_characters="\t\n\r\0", exclude_categories=("Cs",)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=50), st.lists(numbers, min_size=2, max_size=50))
def test_a_larger_number_never_has_a_lower_place(training, asked):
    feature = FeatureConfig(name="x", kind="numeric")
    column = pa.chunked_array([pa.array(training, pa.float64())])
    encoder = NumericEncoder.fit(feature, column, config=FeaturesConfig(), folder=Path())
    asked = pa.chunked_array([pa.array(sorted(asked), pa.float64())])
    found = encoder(encoder.raw(asked)).numpy()
    assert np.isfinite(found).all() and np.abs(found).max() <= 1.0 + 1e-6
    assert (np.diff(found[:, 0]) >= -1e-5).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(words, max_size=30), st.lists(words, min_size=1, max_size=10), st.integers(1, 3))
def test_known_values_have_ids_of_their_own_and_unknown_ones_do_not(training, asked, least):
    feature = FeatureConfig(name="x", kind="categorical")
    config = FeaturesConfig(min_count=least, oov_buckets=2)
    with tempfile.TemporaryDirectory() as folder:
        column = pa.chunked_array([pa.array(training, pa.string())])
        encoder = CategoricalEncoder.fit(feature, column, config=config, folder=Path(folder))
        asked = [*asked, *training, ""]
        found = encoder(encoder.raw(pa.chunked_array([pa.array(asked, pa.string())]))).numpy()
    known = {word for word in training if word and training.count(word) >= least}
    ids = dict(zip(asked, found.tolist(), strict=True))
    assert ids[""] == 0
    assert {ids[word] for word in known} == set(range(1, len(known) + 1))
    for word in set(asked) - known - {""}:
        assert len(known) < ids[word] < encoder.spec.size
