"""TF Serving's batching parameters, read from a text file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

from interactions.errors import UserError
from serving.text_protos import read_text_proto


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are joined; the defaults are TF Serving's (shared_batch_scheduler.h)."""

    max_batch_size: int = 1000
    """Most rows that run together; a request with more is refused."""
    batch_timeout_micros: int = 0
    """How long a request waits for others although it could run."""
    max_enqueued_batches: int = 10
    """Full batches that may wait, for each signature of each model version."""
    num_batch_threads: int = 0
    """Batches that run at the same time; 0 takes the number of cores."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Sizes that a batch is filled up to, ascending to `max_batch_size`; none allows all."""
    pad_variable_length_inputs: bool = False
    """Whether inner dimensions that differ are filled up, with the tensor's first element."""


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Return the BatchingParameters (session_bundle_config.proto) in the text file `path`.

    Raises UserError for a file that cannot be read, a field that is unknown, a value that is
    impossible, and allowed sizes that do not ascend to `max_batch_size`.
    """
    message = read_text_proto(path, _message())
    values: dict[str, Any] = {
        field.name: value.value for field, value in message.ListFields() if field.message_type
    }
    values.pop("thread_pool_name", None)
    parameters = BatchingParameters(
        **values,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
    _check(values, parameters, path=path)
    return parameters


def _check(given: Mapping[str, int], parameters: BatchingParameters, *, path: Path) -> None:
    for name, value in given.items():
        least = 0 if name == "batch_timeout_micros" else 1
        if value < least:
            raise UserError(f"{path}: {name} is {value}; give at least {least}")
    allowed = parameters.allowed_batch_sizes
    if not allowed:
        return
    if allowed[0] < 1 or any(second <= first for first, second in pairwise(allowed)):
        raise UserError(
            f"{path}: allowed_batch_sizes are {', '.join(map(str, allowed))}; "
            "give sizes above 0 that ascend"
        )
    if allowed[-1] != parameters.max_batch_size:
        raise UserError(
            f"{path}: Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{allowed[-1]}; expected {parameters.max_batch_size}"
        )


def _message() -> Any:
    """Return an empty BatchingParameters, which tensorflow-serving-api does not have."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tandem/batching_parameters.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(
        (
            ("max_batch_size", "Int64Value"),
            ("batch_timeout_micros", "Int64Value"),
            ("max_enqueued_batches", "Int64Value"),
            ("num_batch_threads", "Int64Value"),
            ("thread_pool_name", "StringValue"),
        ),
        start=1,
    ):
        message.field.add(
            name=name,
            number=number,
            type=proto.TYPE_MESSAGE,
            type_name=f".google.protobuf.{kind}",
            label=proto.LABEL_OPTIONAL,
        )
    for name, number, kind, label in (
        ("allowed_batch_sizes", 6, proto.TYPE_INT64, proto.LABEL_REPEATED),
        ("pad_variable_length_inputs", 7, proto.TYPE_BOOL, proto.LABEL_OPTIONAL),
    ):
        message.field.add(name=name, number=number, type=kind, label=label)
    # A pool of its own: TensorFlow Serving's official protos may live in the process too.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    )()
