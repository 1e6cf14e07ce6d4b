"""Our messages against TensorFlow's and TF Serving's own descriptors."""

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from tensorflow.core.framework import tensor_pb2  # noqa: F401 - registers its descriptors
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: F401
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from serving import messages

OURS = [
    value.DESCRIPTOR
    for name, value in vars(messages).items()
    if not name.startswith("_") and hasattr(value, "DESCRIPTOR")
    if hasattr(value, "SerializeToString")
]


def describe(field):
    """What decides a field's bytes and its Python name."""
    kind = field.message_type or field.enum_type
    return {
        "name": field.name,
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "packed": field.is_packed,
        "of": kind.full_name if kind else None,
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
        "entry": [describe(part) for part in kind.fields]
        if field.message_type and kind.GetOptions().map_entry
        else None,
    }


@pytest.mark.parametrize("ours", OURS, ids=lambda message: message.full_name)
def test_fields_are_those_of_tensorflow(ours):
    theirs = descriptor_pool.Default().FindMessageTypeByName(ours.full_name)
    assert ours.fields
    for field in ours.fields:
        assert describe(field) == describe(theirs.fields_by_name[field.name])


@pytest.mark.parametrize(
    "ours", [messages.DataType, messages.State, messages.Code], ids=lambda enum: enum.full_name
)
def test_enumerations_are_those_of_tensorflow(ours):
    theirs = descriptor_pool.Default().FindEnumTypeByName(ours.full_name)
    numbers = {value.name: value.number for value in theirs.values}
    assert ours.values
    for value in ours.values:
        assert numbers[value.name] == value.number


def test_the_pool_is_private():
    assert messages.TensorProto.DESCRIPTOR.file.pool is not descriptor_pool.Default()
    assert messages.PredictRequest is not predict_pb2.PredictRequest


def test_official_messages_read_ours_and_write_them_back():
    request = messages.PredictRequest(output_filter=["score"])
    request.model_spec.name = "m"
    request.model_spec.version.value = 7
    request.inputs["x"].float_val.extend([1.0, 2.0])
    official = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert official.model_spec.version.value == 7
    assert list(official.inputs["x"].float_val) == [1.0, 2.0]
    assert messages.PredictRequest.FromString(official.SerializeToString()) == request


def test_any_and_states_are_read():
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.signature_def["s"].inputs["x"].name = "x:0"
    official = get_model_metadata_pb2.GetModelMetadataResponse(
        model_spec=model_pb2.ModelSpec(name="m")
    )
    official.metadata["signature_def"].Pack(signatures)
    ours = messages.GetModelMetadataResponse.FromString(official.SerializeToString())
    found = messages.SignatureDefMap.FromString(ours.metadata["signature_def"].value)
    assert found.signature_def["s"].inputs["x"].name == "x:0"

    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=3, state=30).status.error_code = 5
    ours = messages.GetModelStatusResponse.FromString(status.SerializeToString())
    assert ours.model_version_status[0].version == 3
    assert ours.model_version_status[0].status.error_code == 5


def test_the_client_imports_no_tensorflow():
    code = (
        "import sys, serving.client\n"
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('tensorflow', 'tensorflow_serving', 'tf_keras', 'keras', 'pandas')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
