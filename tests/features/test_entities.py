"""Encoders of all kinds: training = serving = loaded again, and they know training rows only."""

import numpy as np
import pyarrow as pa
import pytest

from features.backend import tf
from features.config import FeaturesConfig
from features.entities import EntityEncoders
from features.layers import EntityTable, FeatureEmbedding
from interactions.config import FeatureConfig

ROWS = 120
CONFIG = FeaturesConfig(text_buckets=97, text_words=5, text_trigrams=7, most_categories=6)


def training_table():
    rng = np.random.default_rng(3)
    genres = [
        "|".join(rng.choice(["drama", "açãó", "noir", "\xa0spaced"], n % 4)) for n in range(ROWS)
    ]
    vectors = rng.normal(size=(ROWS, 3)).astype(np.float32).tolist()
    return pa.table(
        {
            "brand": pa.array(rng.choice(["acme", "Ünïcode", "日本"], ROWS), pa.string()),
            "genres": pa.array(genres, pa.string()),
            "price": pa.array(rng.lognormal(size=ROWS)),
            "title": pa.array([f"thing number {n % 9} of Å" for n in range(ROWS)]),
            "image": pa.array(vectors, pa.list_(pa.float32())),
        }
    )


def odd_table():
    """Values that training has not seen, and missing ones, of every kind."""
    titles = [
        None, "", " ", "Straße & ÇA VA, naïve café", "日本語 テスト", "e\u0301 combined", "a",
        "x" * 5000, " ".join(f"word{n}" for n in range(300)), "🎉🎉 party 🎉", "tabs\tand\nlines",
    ]  # fmt: skip
    brands = [
        None, "", "never seen", "acme", "Acme", " acme", "日本", "Ünïcode", "é", "x" * 999, "a\tb",
    ]  # fmt: skip
    genres = [
        None, "", "|", "drama", " drama | noir ", "drama||noir", "new|drama", "açãó",
        "a|b|c|d|e|f|g", "drama|drama", "noir|" * 40,
    ]  # fmt: skip
    prices = [None, float("nan"), float("inf"), -1e30, 1e30, 0.0, 1.0, -1.0, 3.5, 1e-30, 2.0]
    images = [None, *([float(n), float("nan"), -float(n)] for n in range(len(titles) - 1))]
    return pa.table(
        {
            "brand": pa.array(brands, pa.string()),
            "genres": pa.array(genres, pa.string()),
            "price": pa.array(prices, pa.float64()),
            "title": pa.array(titles, pa.string()),
            "image": pa.array(images, pa.list_(pa.float32())),
        }
    )


FEATURES = (
    FeatureConfig(name="brand", kind="categorical"),
    FeatureConfig(name="genres", kind="categories"),
    FeatureConfig(name="price", kind="numeric"),
    FeatureConfig(name="title", kind="text"),
    FeatureConfig(name="image", kind="vector"),
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return EntityEncoders.fit(FEATURES, training_table(), config=CONFIG, folder=folder), folder


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        if one[name].dtype == np.float32:  # a graph may round a product elsewhere
            np.testing.assert_allclose(one[name], other[name], atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_served_graph_encodes_what_training_encodes(encoders, tmp_path):
    """Eager, traced and loaded from a SavedModel whose source files are gone."""
    fitted, _ = encoders
    copy = EntityEncoders.fit(
        FEATURES, training_table(), config=CONFIG, folder=tmp_path / "encoders"
    )
    raw = copy.raw(odd_table())
    specs = {
        name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in raw.items()
    }
    module = tf.Module()
    module.encoders = copy
    module.encode = tf.function(lambda given: copy(given), input_signature=[specs])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=None)
    (tmp_path / "encoders").rename(tmp_path / "elsewhere")
    served = tf.saved_model.load(str(tmp_path / "model"))
    for table in (odd_table(), training_table()):
        found = {name: v.numpy() for name, v in served.encode(fitted.raw(table)).items()}
        equal(found, dict(fitted.encode(table, unknown=False).arrays))


def test_encoders_loaded_from_their_folder_encode_the_same(encoders):
    fitted, folder = encoders
    loaded = EntityEncoders.load(folder)
    assert loaded.specs == fitted.specs
    equal(dict(loaded.encode(odd_table()).arrays), dict(fitted.encode(odd_table()).arrays))


def test_one_row_is_encoded_as_it_is_among_others(encoders):
    fitted, _ = encoders
    together = fitted.encode(odd_table(), unknown=False).arrays
    for row in range(odd_table().num_rows):
        alone = fitted.encode(odd_table().slice(row, 1), unknown=False).arrays
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][row], err_msg=name)


def test_every_id_is_within_the_size_and_every_number_finite(encoders):
    fitted, _ = encoders
    table = fitted.encode(odd_table())
    for spec in table.specs:
        values = table.arrays[spec.name]
        assert values.shape[1:] == ((spec.width,) if spec.width else ())
        assert np.isfinite(values).all()
        if spec.size:
            assert values.min() >= 0 and values.max() < spec.size


def test_the_last_row_is_the_one_of_which_nothing_is_known(encoders):
    arrays = encoders[0].encode(training_table()).arrays
    assert all(len(values) == ROWS + 1 for values in arrays.values())
    assert arrays["brand"][-1] == 0
    assert not arrays["genres"][-1].any() and not arrays["title"][-1].any()
    assert arrays["price"][-1].tolist() == [0.0, 1.0]
    assert not arrays["image"][-1].any()


def test_several_values_are_found_whatever_surrounds_them(encoders):
    genres = encoders[0].encode(odd_table(), unknown=False).arrays["genres"]
    drama, noir = genres[3][0], genres[4][1]
    assert drama > 0 and noir > 0 and drama != noir
    assert genres[4][0] == drama
    assert genres[5][genres[5] > 0].tolist() == [drama, noir]
    assert genres[2].tolist() == genres[0].tolist() == [0] * genres.shape[1]


def test_every_value_of_training_is_known(encoders):
    fitted, folder = encoders
    genres = fitted.encode(training_table(), unknown=False).arrays["genres"]
    tokens = (folder / "genres.tsv").read_text(encoding="utf-8").splitlines()
    assert set(genres[genres > 0]) == set(range(1, len(tokens) + 1))


def test_text_ignores_case_and_punctuation_and_keeps_words_apart(encoders):
    titles = ["Thing-Number!", "thing number", "  THING   NUMBER ", "number thing", "other words"]
    table = pa.concat_tables([training_table().slice(0, 5)]).set_column(
        3, "title", pa.array(titles, pa.string())
    )
    title = encoders[0].encode(table, unknown=False).arrays["title"]
    assert (title[0] == title[1]).all() and (title[0] == title[2]).all()
    words = title[:, :5]
    assert sorted(words[3]) == sorted(words[0]) and (words[3] != words[0]).any()
    assert not set(words[4][words[4] > 0]) & set(words[0][words[0] > 0])


def test_accents_and_capitals_beyond_ascii_are_one_word(encoders):
    table = training_table().slice(0, 2).set_column(3, "title", pa.array(["ÇÀ VÄ", "çà vä"]))
    title = encoders[0].encode(table, unknown=False).arrays["title"]
    assert title[0].any() and (title[0] == title[1]).all()


def test_what_only_stands_outside_the_training_rows_is_unknown(tmp_path):
    """An item without a training row lends the encoders neither its id nor its features."""
    ids = [f"i{n}" for n in range(10)]
    table = pa.table(
        {
            "item_id": ids,
            "brand": ["seen"] * 8 + ["later"] * 2,
            "price": [float(n) for n in range(8)] + [1e6, -1e6],
        }
    )
    features = [
        FeatureConfig(name="brand", kind="categorical"),
        FeatureConfig(name="price", kind="numeric"),
    ]
    counts = np.array([3] * 7 + [1, 0, 0])

    def fitted(what, folder):
        return EntityEncoders.fit_with_ids(
            features, what, id_name="item_id", counts=counts, config=FeaturesConfig(min_count=2),
            folder=tmp_path / folder,
        )  # fmt: skip

    encoders = fitted(table, "one")
    arrays = encoders.encode(table).arrays
    known = set(arrays["item_id"][:7].tolist())
    assert known == set(range(1, 8))
    assert not known & set(arrays["item_id"][7:].tolist())
    assert arrays["brand"][8] not in (0, arrays["brand"][0])
    assert arrays["price"][8].tolist() == [1.0, 0.0]
    others = table.set_column(1, "brand", pa.array(["seen"] * 8 + ["else"] * 2))
    others = others.set_column(2, "price", pa.array([float(n) for n in range(8)] + [5.0, 5.0]))
    fitted(others, "other")
    one = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert one == {file.name: file.read_bytes() for file in (tmp_path / "other").iterdir()}


def test_a_table_gathers_by_row_and_minus_one_is_the_unknown(encoders):
    encoded = encoders[0].encode(training_table())
    table = EntityTable(encoded, name="t")
    found = table(tf.constant([[5, -1], [0, 7]]))
    for name, values in encoded.arrays.items():
        np.testing.assert_array_equal(found[name], values[np.array([[5, ROWS], [0, 7]])])
    assert set(table(tf.constant([1]), {"price"})) == {"price"}


def test_several_ids_are_averaged_over_those_that_are_there(encoders):
    encoded = encoders[0].encode(training_table())
    spec = next(spec for spec in encoded.specs if spec.name == "genres")
    layer = FeatureEmbedding([spec], dim=4)
    one = layer({"genres": tf.constant([[1, 0, 0]])})
    other = layer({"genres": tf.constant([[2, 0, 0]])})
    both = layer({"genres": tf.constant([[1, 2, 0]])})
    none = layer({"genres": tf.constant([[0, 0, 0]])})
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)
    assert not none.numpy().any()


def test_embedded_features_have_the_length_they_say(encoders):
    encoded = encoders[0].encode(training_table())
    layer = FeatureEmbedding(encoded.specs, dim=4)
    rows = {name: tf.constant(values[:6]) for name, values in encoded.arrays.items()}
    assert layer(rows).shape == (6, layer.output_dim)
