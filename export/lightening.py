"""What makes a saved graph light to run for a single request, without a change of what it means.

**Small operations stay in the thread that asks.** oneDNN, with which TensorFlow computes on x86,
shares each batched product, transposition and softmax out among all threads. To wake these takes
50 to 100 µs, ten times what such an operation of one request computes, and a request has some
forty of them. They become operations of the same meaning that oneDNN does not know. Plain matrix
products, which it computes well, stay.

**Large conditionals are called.** TensorFlow takes conditionals and loops apart into an operation
or two for everything that their branches read, and runs most of these whether the branch is taken
or not. One that reads much is called like a function instead.
"""

# isort: off
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from features.backend import tf  # sets TensorFlow up, which the message below imports
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_GRAPH = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"
_CONDITIONALS = ("If", "StatelessIf", "While", "StatelessWhile")
_GRADIENT = "_gradient_op_type"
_TAKEN_APART = "_lower_using_switch_merge"
_MUCH = 8
"""Inputs above which a conditional is called. To one alone it makes no difference up to 30; but
with those of `recommend` taken apart TensorFlow no longer finds what stands twice in the graph
around them, and runs some 250 constants more at every request."""
_FLOAT, _BITS = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum

Rewrite = Callable[[Any, Any], dict[str, str]]
"""Changes a node of a function, adds others to it, and says which output stands for which now."""


def lighten(folder: Path) -> None:
    """Rewrite the graph of the SavedModel in `folder` as this module says."""
    file = folder / _GRAPH
    model = SavedModel.FromString(file.read_bytes())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            _rewrite(function)
    file.write_bytes(model.SerializeToString(deterministic=True))
    # it is that of the graph before, and nothing needs it
    (folder / _FINGERPRINT).unlink(missing_ok=True)


def _rewrite(function: Any) -> None:
    """Rewrite the nodes of a FunctionDef."""
    renamed: dict[str, str] = {}
    for node in list(function.node_def):
        # nobody asks a served graph for gradients; loading it would warn that these are missing
        node.attr.pop(_GRADIENT, None)
        if node.op in _CONDITIONALS and len(node.input) > _MUCH:
            node.attr[_TAKEN_APART].b = False
        if node.op in _REWRITES and node.attr["T"].type == _FLOAT:
            renamed |= _REWRITES[node.op](function, node)
    last = {after.split(":")[0] for after in renamed.values()}
    for node in function.node_def:
        # what makes the new output reads the old one
        if node.name not in last:
            node.input[:] = [renamed.get(name, name) for name in node.input]
    _rename(function.ret, renamed)


def _rename(outputs: Any, renamed: Mapping[str, str]) -> None:
    for key, name in outputs.items():
        outputs[key] = renamed.get(name, name)


def _batched_product(function: Any, node: Any) -> dict[str, str]:
    """Only the third version says the types of its inputs apart, and oneDNN has none for it."""
    del function
    node.op = "BatchMatMulV3"
    for attribute in ("Ta", "Tb", "Tout"):
        node.attr[attribute].type = _FLOAT
    del node.attr["T"]
    return {}


def _transposition(function: Any, node: Any) -> dict[str, str]:
    """The bits of numbers move as the numbers do."""
    bits = _added(function, "Bitcast", f"{node.name}/bits", node.input[0], T=_FLOAT, type=_BITS)
    node.input[0] = f"{bits}:output:0"
    node.attr["T"].type = _BITS
    before = f"{node.name}:y:0"
    back = _added(function, "Bitcast", f"{node.name}/back", before, T=_BITS, type=_FLOAT)
    return {before: f"{back}:output:0"}


def _softmax(function: Any, node: Any) -> dict[str, str]:
    """The exponential of its logarithm, which takes the same care of large numbers."""
    node.op = "LogSoftmax"
    exponential = _added(function, "Exp", f"{node.name}/exp", f"{node.name}:logsoftmax:0", T=_FLOAT)
    return {f"{node.name}:softmax:0": f"{exponential}:y:0"}


def _added(function: Any, operation: str, name: str, of: str, **types: int) -> str:
    """Add a node of one input to a function, and return its name."""
    node = function.node_def.add(name=name, op=operation, input=[of])
    for attribute, number in types.items():
        node.attr[attribute].type = number
    return name


_REWRITES: Mapping[str, Rewrite] = {
    "BatchMatMulV2": _batched_product,
    "Transpose": _transposition,
    "Softmax": _softmax,
}
