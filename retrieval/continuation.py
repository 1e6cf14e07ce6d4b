"""Going on from an earlier retriever, which knew fewer ids and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.entities import EncodedTable
from features.layers import static_length
from retrieval.model import Retriever, RetrieverInputs


@dataclass(frozen=True)
class Earlier:
    """A trained retriever of the same config, and what it gathered from."""

    retriever: Retriever
    inputs: RetrieverInputs
    context: EncodedTable
    """Encoded event features by log row."""


def continue_from(
    earlier: Earlier, retriever: Retriever, *, inputs: RetrieverInputs, context: EncodedTable
) -> None:
    """Let `retriever`, of `inputs` and `context`, begin with the weights of `earlier`.

    The two know different ids and words, or number them differently. What the earlier one did not
    know begins as the unknown was to it. Numbers keep their weights, though their scale was learnt
    from other rows.
    """
    encoded = {
        "users": (inputs.users, earlier.inputs.users),
        "items": (inputs.items, earlier.inputs.items),
        "context": (context, earlier.context),
    }
    sources = {
        id(variable): _source(
            *(table.arrays[feature] for table in encoded[entity]),
            size=static_length(variable, 0),
            unknown=static_length(old, 0) - 1,
        )
        for (entity, feature, variable), (_, _, old) in zip(
            retriever.tables(), earlier.retriever.tables(), strict=True
        )
    }
    pairs = zip(retriever.trainable_variables, earlier.retriever.trainable_variables, strict=True)
    for variable, old in pairs:
        source = sources.get(id(variable))
        variable.assign(old if source is None else old.numpy()[source])


def _source(new: np.ndarray, old: np.ndarray, *, size: int, unknown: int) -> np.ndarray:
    """[size] int: which of the `old` codes of a column means what each `new` code means."""
    source = np.full(size, unknown)
    # one code to a row, or several, of which the longer column may have more
    new, old = new.reshape(len(new), -1), old.reshape(len(old), -1)
    width = min(new.shape[1], old.shape[1])
    source[new[:, :width]] = old[:, :width]
    return source
