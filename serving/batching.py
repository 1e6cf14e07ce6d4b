"""Requests for the same thing run together: joined on the first dimension, answers split on it.

The rules and words are TF Serving's (tensorflow_serving/batching/batching_session.cc); how long
requests wait and who runs them is `serving.admission`'s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from serving.admission import Admission, Arrays, Line
from serving.batching_parameters import BatchingParameters
from serving.errors import failed_precondition, invalid_argument
from serving.runners import Runner

_MOST_DIMENSIONS = 6


class BatchObserver(Protocol):
    """Is told of every batch that runs (metrics)."""

    def batch(self, *, rows: Sequence[int], padding: int, waiting: int) -> None:
        """Take the rows of each request, the rows added, and the requests that still wait."""
        ...


class BatchingRunner:
    """A runner that runs requests together; it behaves as TF Serving's BatchingSession."""

    def __init__(
        self,
        runner: Runner,
        *,
        admission: Admission,
        parameters: BatchingParameters,
        observer: BatchObserver | None = None,
    ) -> None:
        self._runner = runner
        self._admission = admission
        self._parameters = parameters
        self._observer = observer
        self._line = Line(
            self._run_together,
            most_rows=parameters.max_batch_size,
            most_waiting_rows=parameters.max_batch_size * parameters.max_enqueued_batches,
            patience=parameters.batch_timeout_micros / 1e6,
        )

    def run(self, inputs: Arrays, *, deadline: float | None = None) -> Arrays:
        """Return the outputs for `inputs`, which all have the same number of rows.

        Raises ServingError: INVALID_ARGUMENT for inputs without a common first dimension or with
        more rows than a batch may have, FAILED_PRECONDITION for what cannot be joined or split,
        what Admission raises, and what the runner raises for any of the requests that are joined.
        """
        rows = count_rows(inputs)
        if rows > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        return self._admission.run(self._line, inputs, rows=rows, deadline=deadline)

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def _run_together(self, requests: Sequence[Arrays]) -> Sequence[Arrays]:
        rows = [count_rows(inputs) for inputs in requests]
        padding = padding_for(sum(rows), self._parameters.allowed_batch_sizes)
        if self._observer is not None:
            self._observer.batch(rows=rows, padding=padding, waiting=self._admission.waiting)
        joined = join(
            requests, padding=padding, pad_inner=self._parameters.pad_variable_length_inputs
        )
        return split(self._runner.run(joined), rows=rows, padding=padding)


def count_rows(inputs: Arrays) -> int:
    """Return the size of the first dimension, which all inputs must share.

    Raises ServingError (INVALID_ARGUMENT) where there is no such size.
    """
    if not inputs:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    sizes = set()
    for array in inputs.values():
        if array.ndim == 0:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes.add(array.shape[0])
    if len(sizes) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def padding_for(rows: int, allowed: Sequence[int]) -> int:
    """Return how many rows are missing to the next of the `allowed` sizes, which ascend."""
    place = bisect_left(allowed, rows)
    return allowed[place] - rows if place < len(allowed) else 0


def join(requests: Sequence[Arrays], *, padding: int = 0, pad_inner: bool = False) -> Arrays:
    """Return the inputs, each [rows, ...], one after the other: [all rows + padding, ...].

    The padding repeats a row of the last request. With `pad_inner`, inner dimensions are filled up
    to the largest with each tensor's first element. Raises ServingError: FAILED_PRECONDITION for
    inner dimensions that differ; with `pad_inner`, INVALID_ARGUMENT for a tensor without elements
    or of a rank that cannot be filled up.
    """
    joined = {}
    for name in requests[0]:
        arrays = [inputs[name] for inputs in requests]
        if pad_inner:
            arrays = list(_filled(arrays))
        elif any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            raise failed_precondition(
                f"Tensors with name '{name}' from different tasks have different shapes and "
                "padding is turned off.Set pad_variable_length_inputs to true, or ensure that all "
                "tensors with the same namehave equal dimensions starting with the first dim."
            )
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if padding and len(whole):
            row = arrays[-1][:1] if len(arrays[-1]) else whole[-1:]
            whole = np.concatenate([whole, np.repeat(row, padding, axis=0)])
        joined[name] = whole
    return joined


def split(outputs: Arrays, *, rows: Sequence[int], padding: int = 0) -> Sequence[Arrays]:
    """Return each request's rows of the outputs, each [all rows + padding, ...].

    Raises ServingError (FAILED_PRECONDITION) for an output that has not one row for each input row.
    """
    total = sum(rows) + padding
    for array in outputs.values():
        if array.ndim == 0:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != total:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the "
                "0th dimension sizes of the input tensors"
            )
    if len(rows) == 1 and not padding:
        return [outputs]
    ends = np.cumsum([0, *rows]).tolist()
    return [
        {name: array[start:end] for name, array in outputs.items()} for start, end in pairwise(ends)
    ]


def _filled(arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Give the arrays [rows, ...] with inner dimensions as large as the largest among them."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) > 1 or max(ranks) > _MOST_DIMENSIONS:
        raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
    largest = tuple(max(sizes) for sizes in zip(*(a.shape[1:] for a in arrays), strict=True))
    for array in arrays:
        if array.shape[1:] == largest:
            yield array
            continue
        if array.size == 0:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        filled = np.empty((len(array), *largest), array.dtype)
        filled.fill(array.flat[0])  # np.full would cut the zero bytes off the end of a string
        filled[tuple(map(slice, array.shape))] = array
        yield filled
