"""JSON to the Examples of Classify and Regress, and their results back (util/json_tensor.cc)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid_argument
from serving.json_document import (
    Document,
    check_lossless,
    decode_base64,
    is_base64,
    type_word,
)
from serving.json_reader import LARGEST_INT64, as_float, is_integer, members
from serving.json_writer import decimal_texts, object_text, string_text

_EXAMPLES, _CONTEXT = "examples", "context"
_KIND_WORDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_examples(request: Any, document: Document) -> None:
    """Fill the input of a ClassificationRequest or RegressionRequest from a body.

    Raises ServingError with TF Serving's text for forms and values that do not fit.
    """
    body = document.value
    if _CONTEXT in body:
        listed = request.input.example_list_with_context
        listed.context.SetInParent()
        _fill_example(listed.context, body[_CONTEXT], document)
    else:
        listed = request.input.example_list
    if _EXAMPLES not in body:
        raise document.refused(
            f"When method is classify, key '{_EXAMPLES}' is expected and was not found"
        )
    if not isinstance(body[_EXAMPLES], list):
        raise document.refused(f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not body[_EXAMPLES]:
        raise document.refused(f"'{_EXAMPLES}' value is an empty array")
    for value in body[_EXAMPLES]:
        _fill_example(listed.examples.add(), value, document)


def classifications_text(result: Any) -> str:
    """Return the body that answers with a ClassificationResult: per example, label and score."""
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    rows = [_classes_text(row.classes) for row in result.classifications]
    return object_text([("results", f"[{', '.join(rows)}\n    ]")], depth=0)


def regressions_text(result: Any) -> str:
    """Return the body that answers with a RegressionResult: a number per example."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = decimal_texts(np.array([row.value for row in result.regressions], np.float32))
    return object_text([("results", f"[{', '.join(values)}]")], depth=0)


def _classes_text(classes: Any) -> str:
    scores = decimal_texts(np.array([entry.score for entry in classes], np.float32))
    pairs = zip(classes, scores, strict=True)
    return f"[{', '.join(f'[{string_text(entry.label)}, {score}]' for entry, score in pairs)}]"


def _fill_example(example: Any, value: Any, document: Document) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_word(value)}")
    for name, content in members(value):
        feature = example.features.feature[_as_unicode(name)]
        # Where a name stands twice, its last values count.
        feature.Clear()
        for entry in content if isinstance(content, list) else [content]:
            _add_value(feature, entry, name=name, document=document)


def _add_value(feature: Any, value: Any, *, name: str, document: Document) -> None:
    """Append one value to the list of its kind (AddValueToFeature)."""
    if (
        value is None
        or isinstance(value, list)
        or (isinstance(value, dict) and not is_base64(value))
    ):
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {type_word(value)}"
        )
    if isinstance(value, dict):
        _values(feature, "bytes_list", name=name).append(decode_base64(value))
    elif isinstance(value, str):
        encoded = value.encode("utf-8", "surrogateescape")
        _values(feature, "bytes_list", name=name).append(encoded)
    elif isinstance(value, bool):
        _values(feature, "int64_list", name=name).append(int(value))
    elif is_integer(value):
        _values(feature, "int64_list", name=name).append(_as_int64(value, name=name))
    else:
        values = _values(feature, "float_list", name=name)
        check_lossless(value, "float")
        number = as_float(value)
        if math.isinf(number):
            document.check_overflow(np.array([number]))
        values.append(number)


def _values(feature: Any, kind: str, *, name: str) -> Any:
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise _mixed(name, found)
    return getattr(feature, kind).value


def _mixed(name: str, kind: str) -> ServingError:
    return invalid_argument(
        f"Unexpected element type in feature: {name} expecting type: {_KIND_WORDS[kind]}"
    )


def _as_int64(value: int, *, name: str) -> int:
    if value > LARGEST_INT64:
        raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
    return value


def _as_unicode(name: str) -> str:
    """Return a name that a protobuf map can hold; bytes that are no UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
