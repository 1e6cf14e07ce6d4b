"""The Examples of Classify and Regress, the signatures that take them, and what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.apis import DataType, tf
from serving.errors import invalid_argument

EXAMPLES = "inputs"
CLASSES = "classes"
SCORES = "scores"
REGRESSIONS = "outputs"


def serialized_examples(given: Any) -> np.ndarray:
    """Return the serialized Examples [B] of an Input, as an object array of bytes.

    Raises ServingError (INVALID_ARGUMENT) where there is none.
    """
    if given.WhichOneof("kind") == "example_list_with_context":
        # Parsing what is joined merges it: an Example's own features win.
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    else:
        context, examples = b"", given.example_list.examples
    if not examples:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(examples), dtype=object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def check_classification(signature: Any) -> None:
    """Refuse a signature that cannot classify; raises ServingError (classifier.cc)."""
    _check_one_input(signature, "classification", outputs=(1, 2))
    if CLASSES not in signature.outputs and SCORES not in signature.outputs:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{CLASSES}" or "{SCORES}". Signature was: {signature}'
        )


def check_regression(signature: Any) -> None:
    """Refuse a signature that cannot regress; raises ServingError (regressor.cc)."""
    _check_one_input(signature, "regression", outputs=(1,))
    if REGRESSIONS not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")


def write_classifications(
    result: Any, labels: np.ndarray | None, scores: np.ndarray | None, *, rows: int
) -> None:
    """Write `labels` (bytes) and `scores` (float32), each [rows, n] or missing, into `result`.

    Raises ServingError (INVALID_ARGUMENT) for other shapes and types.
    """
    if labels is not None:
        _check_scores(labels, CLASSES, dtype="DT_STRING", rows=rows)
    if scores is not None:
        _check_scores(scores, SCORES, dtype="DT_FLOAT", rows=rows)
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{labels.shape[1]} vs. {scores.shape[1]}"
        )
    for row in range(rows):
        words = None if labels is None else labels[row].tolist()
        numbers = None if scores is None else scores[row].tolist()
        classes = result.classifications.add().classes
        for column in range(len(words if words is not None else numbers or ())):
            found = classes.add()
            if words is not None:
                found.label = words[column].decode("utf-8", errors="replace")
            if numbers is not None:
                found.score = numbers[column]


def write_regressions(result: Any, values: np.ndarray, *, rows: int) -> None:
    """Write `values` (float32) [rows] or [rows, 1] into `result`.

    Raises ServingError (INVALID_ARGUMENT) for another shape or type.
    """
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(values)}"
        )
    if values.shape[0] != rows:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {rows} vs. {values.shape[0]}"
        )
    if _dtype_name(values) != "DT_FLOAT":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype_name(values)}")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)


def _check_one_input(signature: Any, kind: str, *, outputs: tuple[int, ...]) -> None:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in outputs:
        raise invalid_argument(
            "Expected one output Tensor."
            if outputs == (1,)
            else f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    if EXAMPLES not in signature.inputs:
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {signature}")


def _check_scores(array: np.ndarray, name: str, *, dtype: str, rows: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if _dtype_name(array) != dtype:
        raise invalid_argument(f"Expected {name} Tensor of {dtype}. Got: {_dtype_name(array)}")
    if array.shape[0] != rows:
        raise invalid_argument(
            f"Expected {name} output batch size of {rows}. Got: {array.shape[0]}"
        )


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(str(size) for size in array.shape) + "]"


def _dtype_name(array: np.ndarray) -> str:
    return DataType.Name(tf.as_dtype(array.dtype).as_datatype_enum)
