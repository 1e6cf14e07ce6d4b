"""The text file of batching parameters."""

import pytest

from export.serving_files import serving_files
from interactions.errors import UserError
from serving.batching_parameters import BatchingParameters, read_batching_parameters


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "batching.config"
        file.write_text(text)
        return read_batching_parameters(file)

    return read


def test_every_field_is_read(read):
    assert read("""
        # TF Serving's own example, and more
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "batches" }
        allowed_batch_sizes: 1  allowed_batch_sizes: [16, 128]
        pad_variable_length_inputs: true
    """) == BatchingParameters(
        max_batch_size=128, batch_timeout_micros=0, max_enqueued_batches=1_000_000,
        num_batch_threads=8, allowed_batch_sizes=(1, 16, 128), pad_variable_length_inputs=True,
    )  # fmt: skip


def test_what_is_left_out_is_as_in_tf_serving(read):
    parameters = read("")
    assert parameters.max_batch_size == 1000
    assert parameters.batch_timeout_micros == 0
    assert parameters.max_enqueued_batches == 10
    assert parameters.allowed_batch_sizes == ()


def test_the_file_of_a_bundle_is_read(read):
    assert read(serving_files(max_batch=24)["batching.config"]).max_batch_size == 24


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_batch_size: 3", "a BatchingParameters"),
        ("most_rows { value: 3 }", "most_rows"),
        ("enable_large_batch_splitting { value: true }", "enable_large_batch_splitting"),
        ("max_batch_size { value: 0 }", "max_batch_size is 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads is 0"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "must match max_batch_size; last entry was 4; expected 8",
        ),
        ("allowed_batch_sizes: [2, 4]", "expected 1000"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [4, 2, 4]", "ascend"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [0, 4]", "above 0"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(read, text, says):
    with pytest.raises(UserError) as caught:
        read(text)
    assert says in str(caught.value) and "batching.config" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        read_batching_parameters(tmp_path / "nowhere")
