"""Writing a model's signatures as a SavedModel that needs nothing but TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.backend import tf


def save_model(folder: Path, signatures: Mapping[str, Any], *, tables: Sequence[Any]) -> None:
    """Write `signatures`, tf.functions by name, with the variables and lookup `tables` they use.

    Only these go into the model, not the layers that hold them: a SavedModel of Keras layers would
    carry traces of each of their calls.
    """
    concrete = {name: call.get_concrete_function() for name, call in signatures.items()}
    used = {id(v): v for function in concrete.values() for v in function.graph.variables}
    root = tf.Module()
    root.tables = list(tables)
    root.values = list(used.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, str(folder), signatures=concrete, options=options)
