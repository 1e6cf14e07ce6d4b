"""Messages of TF Serving's text files, those that `tensorflow-serving-api` leaves out too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from interactions.errors import UserError

_M = TypeVar("_M")
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
}


def message_class(name: str, fields: Mapping[str, str]) -> Any:
    """Return a message class `tensorflow.serving.NAME` with `fields`: string or bool by name.

    Text files name fields and never number them, so their order here does not matter.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"tandem/{name}.proto", package="tensorflow.serving", syntax="proto3"
    )
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
        message.field.add(
            name=field,
            number=number,
            type=_TYPES[kind],
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def read_text_proto(path: Path, message: _M, *, remedy: str = "") -> _M:
    """Parse the text file `path` into `message` and return it.

    Raises UserError, with the `remedy`, for a file that cannot be read or is no such message.
    """
    kind = type(message).__name__
    remedy = remedy or f"name a text file with a {kind}"
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"Invalid protobuf file: '{path}' is no {kind} ({reason}); {remedy}"
        ) from error
    return message
