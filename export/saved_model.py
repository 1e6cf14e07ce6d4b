"""Writing a model's signatures as a SavedModel that needs nothing but TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.lightening import lighten
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
    with _run_as_traced():
        tf.saved_model.save(root, str(folder), signatures=concrete, options=options)
    lighten(folder)


@contextmanager
def _run_as_traced() -> Iterator[None]:
    """Tell servers, in what is saved meanwhile, to run functions as they are.

    TensorFlow's optimisation of graphs takes some ten seconds when a recommender is first asked,
    and its answers come no faster for it: docs/decisions/0024-graphs-run-as-they-are-written.md.
    """
    key = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(key, False)
    tf.config.optimizer.set_experimental_options({key: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({key: before})
