"""TF Serving's messages for clients without TensorFlow: same wire, private descriptor pool.

`tensorflow_serving.apis` imports TensorFlow, for seconds and gigabytes. These messages are declared
here by field number instead, in a pool of their own, so that they live beside TensorFlow's in one
process. Sources: tensorflow/core/framework/{tensor,tensor_shape,types}.proto,
tensorflow/core/protobuf/meta_graph.proto and tensorflow_serving/apis/*.proto; only the fields that
Tandem reads or writes are declared, the others pass through as unknown fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Proto.TYPE_BOOL,
    "bytes": _Proto.TYPE_BYTES,
    "double": _Proto.TYPE_DOUBLE,
    "float": _Proto.TYPE_FLOAT,
    "int32": _Proto.TYPE_INT32,
    "int64": _Proto.TYPE_INT64,
    "string": _Proto.TYPE_STRING,
    "uint32": _Proto.TYPE_UINT32,
    "uint64": _Proto.TYPE_UINT64,
}


@dataclass(frozen=True)
class _Field:
    """One field: a scalar's name, or the full name of an enumeration or a message."""

    number: int
    name: str
    type: str
    repeated: bool = False
    oneof: str | None = None


@dataclass(frozen=True)
class _Map:
    """A map from string to a message."""

    number: int
    name: str
    value: str


_Fields = Sequence[_Field | _Map]

_ENUMS: Mapping[str, Mapping[str, int]] = {
    "tensorflow.DataType": {
        "DT_INVALID": 0,
        "DT_FLOAT": 1,
        "DT_DOUBLE": 2,
        "DT_INT32": 3,
        "DT_UINT8": 4,
        "DT_INT16": 5,
        "DT_INT8": 6,
        "DT_STRING": 7,
        "DT_COMPLEX64": 8,
        "DT_INT64": 9,
        "DT_BOOL": 10,
        "DT_BFLOAT16": 14,
        "DT_UINT16": 17,
        "DT_COMPLEX128": 18,
        "DT_HALF": 19,
        "DT_RESOURCE": 20,
        "DT_VARIANT": 21,
        "DT_UINT32": 22,
        "DT_UINT64": 23,
    },
    "tensorflow.error.Code": {
        "OK": 0,
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "INVALID_ARGUMENT": 3,
        "DEADLINE_EXCEEDED": 4,
        "NOT_FOUND": 5,
        "ALREADY_EXISTS": 6,
        "PERMISSION_DENIED": 7,
        "RESOURCE_EXHAUSTED": 8,
        "FAILED_PRECONDITION": 9,
        "ABORTED": 10,
        "OUT_OF_RANGE": 11,
        "UNIMPLEMENTED": 12,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "DATA_LOSS": 15,
        "UNAUTHENTICATED": 16,
    },
    "tensorflow.serving.ModelVersionStatus.State": {
        "UNKNOWN": 0,
        "START": 10,
        "LOADING": 20,
        "AVAILABLE": 30,
        "UNLOADING": 40,
        "END": 50,
    },
}

_MESSAGES: Mapping[str, _Fields] = {
    "tensorflow.TensorShapeProto.Dim": (_Field(1, "size", "int64"), _Field(2, "name", "string")),
    "tensorflow.TensorShapeProto": (
        _Field(2, "dim", "tensorflow.TensorShapeProto.Dim", repeated=True),
        _Field(3, "unknown_rank", "bool"),
    ),
    "tensorflow.TensorProto": (
        _Field(1, "dtype", "tensorflow.DataType"),
        _Field(2, "tensor_shape", "tensorflow.TensorShapeProto"),
        _Field(3, "version_number", "int32"),
        _Field(4, "tensor_content", "bytes"),
        _Field(5, "float_val", "float", repeated=True),
        _Field(6, "double_val", "double", repeated=True),
        _Field(7, "int_val", "int32", repeated=True),
        _Field(8, "string_val", "bytes", repeated=True),
        _Field(9, "scomplex_val", "float", repeated=True),
        _Field(10, "int64_val", "int64", repeated=True),
        _Field(11, "bool_val", "bool", repeated=True),
        _Field(12, "dcomplex_val", "double", repeated=True),
        _Field(13, "half_val", "int32", repeated=True),
        _Field(16, "uint32_val", "uint32", repeated=True),
        _Field(17, "uint64_val", "uint64", repeated=True),
    ),
    "tensorflow.TensorInfo": (
        _Field(1, "name", "string", oneof="encoding"),
        _Field(2, "dtype", "tensorflow.DataType"),
        _Field(3, "tensor_shape", "tensorflow.TensorShapeProto"),
    ),
    "tensorflow.SignatureDef": (
        _Map(1, "inputs", "tensorflow.TensorInfo"),
        _Map(2, "outputs", "tensorflow.TensorInfo"),
        _Field(3, "method_name", "string"),
        _Map(4, "defaults", "tensorflow.TensorProto"),
    ),
    "tensorflow.serving.ModelSpec": (
        _Field(1, "name", "string"),
        _Field(2, "version", "google.protobuf.Int64Value", oneof="version_choice"),
        _Field(4, "version_label", "string", oneof="version_choice"),
        _Field(3, "signature_name", "string"),
    ),
    "tensorflow.serving.PredictRequest": (
        _Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
        _Map(2, "inputs", "tensorflow.TensorProto"),
        _Field(3, "output_filter", "string", repeated=True),
    ),
    "tensorflow.serving.PredictResponse": (
        _Field(2, "model_spec", "tensorflow.serving.ModelSpec"),
        _Map(1, "outputs", "tensorflow.TensorProto"),
    ),
    "tensorflow.serving.StatusProto": (
        _Field(1, "error_code", "tensorflow.error.Code"),
        _Field(2, "error_message", "string"),
    ),
    "tensorflow.serving.GetModelStatusRequest": (
        _Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
    ),
    "tensorflow.serving.ModelVersionStatus": (
        _Field(1, "version", "int64"),
        _Field(2, "state", "tensorflow.serving.ModelVersionStatus.State"),
        _Field(3, "status", "tensorflow.serving.StatusProto"),
    ),
    "tensorflow.serving.GetModelStatusResponse": (
        _Field(1, "model_version_status", "tensorflow.serving.ModelVersionStatus", repeated=True),
    ),
    "tensorflow.serving.GetModelMetadataRequest": (
        _Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
        _Field(2, "metadata_field", "string", repeated=True),
    ),
    "tensorflow.serving.GetModelMetadataResponse": (
        _Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
        _Map(2, "metadata", "google.protobuf.Any"),
    ),
    "tensorflow.serving.SignatureDefMap": (_Map(1, "signature_def", "tensorflow.SignatureDef"),),
}


def _declare_field(
    message: descriptor_pb2.DescriptorProto, field: _Field, *, oneofs: dict[str, int]
) -> None:
    proto = message.field.add(name=field.name, number=field.number)
    proto.label = _Proto.LABEL_REPEATED if field.repeated else _Proto.LABEL_OPTIONAL
    if field.type in _SCALARS:
        proto.type = _SCALARS[field.type]
    else:
        proto.type = _Proto.TYPE_ENUM if field.type in _ENUMS else _Proto.TYPE_MESSAGE
        proto.type_name = f".{field.type}"
    if field.oneof is not None:
        if field.oneof not in oneofs:
            oneofs[field.oneof] = len(oneofs)
            message.oneof_decl.add(name=field.oneof)
        proto.oneof_index = oneofs[field.oneof]


def _declare(message: descriptor_pb2.DescriptorProto, *, name: str) -> None:
    """Fill in the fields of the message with the full name `name`, and the types nested in it."""
    oneofs: dict[str, int] = {}
    for field in _MESSAGES[name]:
        if isinstance(field, _Field):
            _declare_field(message, field, oneofs=oneofs)
            continue
        # protoc writes a map as a repeated message of key and value, named in camel case.
        entry_name = "".join(word.capitalize() for word in field.name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _declare_field(entry, _Field(1, "key", "string"), oneofs={})
        _declare_field(entry, _Field(2, "value", field.value), oneofs={})
        full = _Field(field.number, field.name, f"{name}.{entry_name}", repeated=True)
        _declare_field(message, full, oneofs=oneofs)
    for nested in _MESSAGES:
        if nested.rpartition(".")[0] == name:
            _declare(message.nested_type.add(name=nested.rpartition(".")[2]), name=nested)
    for enum in _ENUMS:
        if enum.rpartition(".")[0] == name:
            _declare_enum(message.enum_type.add(), name=enum)


def _declare_enum(proto: descriptor_pb2.EnumDescriptorProto, *, name: str) -> None:
    proto.name = name.rpartition(".")[2]
    for value, number in _ENUMS[name].items():
        proto.value.add(name=value, number=number)


def _build_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    known = []
    for module in (any_pb2, wrappers_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        pool.Add(file)
        known.append(file.name)
    for package in ("tensorflow", "tensorflow.error", "tensorflow.serving"):
        file = descriptor_pb2.FileDescriptorProto(
            name=f"tandem/{package}.proto", package=package, syntax="proto3", dependency=known
        )
        for name in _MESSAGES:
            if name.rpartition(".")[0] == package:
                _declare(file.message_type.add(name=name.rpartition(".")[2]), name=name)
        for name in _ENUMS:
            if name.rpartition(".")[0] == package:
                _declare_enum(file.enum_type.add(), name=name)
        pool.Add(file)
        known.append(file.name)
    return pool


_POOL = _build_pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


DataType = _POOL.FindEnumTypeByName("tensorflow.DataType")
Code = _POOL.FindEnumTypeByName("tensorflow.error.Code")
State = _POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")
TensorShapeProto = _message("tensorflow.TensorShapeProto")
TensorProto = _message("tensorflow.TensorProto")
TensorInfo = _message("tensorflow.TensorInfo")
SignatureDef = _message("tensorflow.SignatureDef")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
StatusProto = _message("tensorflow.serving.StatusProto")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
