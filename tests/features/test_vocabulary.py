import numpy as np
import pytest

from features.backend import tf
from features.vocabulary import Vocabulary, VocabularyLookup
from interactions.errors import UserError


def lookup(vocabulary, path):
    vocabulary.save(path)
    return VocabularyLookup(path, oov_buckets=vocabulary.oov_buckets, empty=not vocabulary.tokens)


def test_frequent_values_come_first_and_rare_ones_share_the_buckets(tmp_path):
    values = np.array(["b", "a", "b", "", "c", "a", "b", ""], object)
    vocabulary = Vocabulary.of(values, min_count=2, oov_buckets=3)
    assert vocabulary.tokens == ("b", "a")
    assert vocabulary.counts == (3, 2)
    encoded = lookup(vocabulary, tmp_path / "v.tsv")(tf.constant(["", "b", "a", "c", "never"]))
    assert encoded.numpy()[:3].tolist() == [0, 1, 2]
    assert set(encoded.numpy()[3:].tolist()) <= {3, 4, 5}
    assert vocabulary.size == 6


def test_values_of_equal_count_come_in_the_order_of_their_letters():
    vocabulary = Vocabulary.of(np.array(["z", "a", "m"], object), min_count=1, oov_buckets=1)
    assert vocabulary.tokens == ("a", "m", "z")


def test_unknown_values_spread_over_all_buckets(tmp_path):
    vocabulary = Vocabulary.of(np.array(["a", "a"], object), min_count=1, oov_buckets=4)
    encoded = lookup(vocabulary, tmp_path / "v.tsv")(tf.constant([f"new {n}" for n in range(200)]))
    assert set(encoded.numpy().tolist()) == {2, 3, 4, 5}


def test_an_empty_vocabulary_encodes_everything_as_unknown_but_the_empty_string(tmp_path):
    vocabulary = Vocabulary.of(np.array(["a", "b"], object), min_count=2, oov_buckets=2)
    encoded = lookup(vocabulary, tmp_path / "v.tsv")(tf.constant(["", "a", "b", "c", "d", "e"]))
    assert encoded.numpy()[0] == 0
    assert set(encoded.numpy()[1:].tolist()) == {1, 2}
    assert vocabulary.size == 3


def test_saved_and_loaded_it_is_the_same(tmp_path):
    values = np.array(["é ü", "é ü", "日本", "\u2028line", "x"], object)
    vocabulary = Vocabulary.of(values, min_count=1, oov_buckets=2)
    vocabulary.save(tmp_path / "v.tsv")
    assert Vocabulary.load(tmp_path / "v.tsv", oov_buckets=2) == vocabulary


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\rb"])
def test_a_value_that_no_file_can_keep_is_refused_by_name(tmp_path, bad):
    vocabulary = Vocabulary.of(np.array([bad], object), min_count=1, oov_buckets=1)
    with pytest.raises(UserError) as error:
        vocabulary.save(tmp_path / "brand.tsv")
    message = str(error.value)
    assert "brand" in message and repr(bad) in message and "\n" not in message


def test_ragged_values_keep_their_shape(tmp_path):
    vocabulary = Vocabulary.of(np.array(["a", "b"], object), min_count=1, oov_buckets=1)
    ragged = tf.ragged.constant([["a", "b"], [], ["b", ""]])
    encoded = lookup(vocabulary, tmp_path / "v.tsv")(ragged)
    assert encoded.to_list() == [[1, 2], [], [2, 0]]
