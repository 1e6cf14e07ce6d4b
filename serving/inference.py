"""Predict, Classify, Regress and MultiInference of one loaded model: a message in, one out.

The model in the request's spec is not looked at; `serving.services` has found it already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from serving.apis import (
    ClassificationResponse,
    DataType,
    MultiInferenceResponse,
    PredictResponse,
    RegressionResponse,
)
from serving.errors import ServingError, failed_precondition, invalid_argument, unimplemented
from serving.examples import (
    CLASSES,
    REGRESSIONS,
    SCORES,
    check_classification,
    check_regression,
    serialized_examples,
    write_classifications,
    write_regressions,
)
from serving.models import DEFAULT_SIGNATURE, LoadedModel, SignaturePlan
from serving.tensors import to_array, write_tensor

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_PREDICT = "tensorflow/serving/predict"
_STRING = DataType.Value("DT_STRING")


def predict(model: LoadedModel, request: Any, *, deadline: float | None = None) -> Any:
    """Run a signature on the tensors of a PredictRequest; an empty name is `serving_default`.

    Raises ServingError, with TF Serving's codes (predict_util.cc), for an unknown signature
    (FAILED_PRECONDITION) and for names, types, shapes or values that do not fit (INVALID_ARGUMENT).
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    plan = model.plan(name)
    if plan is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if model.check_method_names:
        _check_predict_method(plan.definition)
    arrays = _input_arrays(request.inputs, plan)
    wanted = _output_names(request.output_filter, plan)
    _check_types(request.inputs, plan)
    outputs = model.runner(plan, wanted).run(arrays, deadline=deadline)
    response = PredictResponse()
    _fill_spec(response.model_spec, model, signature=name)
    for output in wanted:
        write_tensor(response.outputs[output], outputs[output])
    return response


def classify(model: LoadedModel, request: Any, *, deadline: float | None = None) -> Any:
    """Run a signature on the Examples of a ClassificationRequest; raises ServingError."""
    plan = _plan_of(model, request.model_spec, _check_classification)
    response = ClassificationResponse()
    _fill_spec(response.model_spec, model, signature=plan.name)
    examples = serialized_examples(request.input)
    _classify(model, plan, examples, response.result, deadline=deadline)
    return response


def regress(model: LoadedModel, request: Any, *, deadline: float | None = None) -> Any:
    """Run a signature on the Examples of a RegressionRequest; raises ServingError."""
    plan = _plan_of(model, request.model_spec, _check_regression)
    response = RegressionResponse()
    _fill_spec(response.model_spec, model, signature=plan.name)
    examples = serialized_examples(request.input)
    _regress(model, plan, examples, response.result, deadline=deadline)
    return response


def multi_inference(model: LoadedModel, request: Any, *, deadline: float | None = None) -> Any:
    """Run several signatures on the Examples of a MultiInferenceRequest; raises ServingError."""
    tasks = _tasks(model, request)
    examples = serialized_examples(request.input)
    response = MultiInferenceResponse()
    for task in tasks:
        result = response.results.add()
        _fill_spec(result.model_spec, model, signature=task.plan.name)
        if task.method == CLASSIFY:
            answer = result.classification_result
            _classify(model, task.plan, examples, answer, deadline=deadline)
        else:
            answer = result.regression_result
            _regress(model, task.plan, examples, answer, deadline=deadline)
    return response


def _fill_spec(spec: Any, model: LoadedModel, *, signature: str) -> None:
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature


def _input_arrays(inputs: Mapping[str, Any], plan: SignaturePlan) -> dict[str, np.ndarray]:
    """Return the arrays to feed, by input name."""
    if plan.input_names != inputs.keys():
        _check_input_names(set(inputs), plan)
    arrays = {}
    for slot in plan.inputs:
        # `in` first: a map of protobuf makes the entry that it is asked for.
        tensor = inputs[slot.name] if slot.name in inputs else plan.definition.defaults[slot.name]
        try:
            arrays[slot.name] = to_array(tensor)
        except ValueError as error:
            raise invalid_argument(f"tensor parsing error: {slot.name}") from error
    return arrays


def _check_input_names(sent: set[str], plan: SignaturePlan) -> None:
    """Refuse surplus and missing names; a missing input with a default is none."""
    wanted = set(plan.input_names)
    missing = wanted - sent - set(plan.definition.defaults)
    extra = sent - wanted
    if not missing and not extra:
        return
    difference = f"Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
    if len(sent) != len(wanted):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_braced(sent)}) != len({_braced(wanted)}). {difference}"
        )
    alias = min(missing or extra)
    feed = plan.definition.inputs[alias].name if alias in wanted else ""
    raise invalid_argument(
        f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default "
        f"value provided. Inputs expected to be in the request {_braced(sent)}, or default input "
        f"alias set: {','.join(sorted(plan.definition.defaults))}. {difference}"
    )


def _output_names(output_filter: Sequence[str], plan: SignaturePlan) -> tuple[str, ...]:
    """Return the sorted names of the outputs that are asked for: all without a filter."""
    if not output_filter:
        return plan.outputs
    seen: set[str] = set()
    for name in output_filter:
        if name not in plan.definition.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_braced(plan.outputs)}."
            )
        if name in seen:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
        seen.add(name)
    return tuple(sorted(seen))


def _check_types(inputs: Mapping[str, Any], plan: SignaturePlan) -> None:
    """Refuse here what the graph would refuse, so that no other request of a batch suffers."""
    for slot in plan.inputs:
        if slot.name in inputs and inputs[slot.name].dtype != slot.dtype:
            raise _wrong_type(slot.place, expected=slot.dtype, given=inputs[slot.name].dtype)


def _wrong_type(place: int, *, expected: int, given: int) -> Exception:
    return invalid_argument(
        f"Expects arg[{place}] to be {_type_name(expected)} but {_type_name(given)} is provided"
    )


@dataclass(frozen=True)
class _Task:
    """A checked task of a MultiInferenceRequest."""

    plan: SignaturePlan
    method: str


def _tasks(model: LoadedModel, request: Any) -> list[_Task]:
    """Check all tasks before any of them runs (multi_inference.cc)."""
    tasks: list[_Task] = []
    model_name = ""
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != (model_name or spec.name):
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        model_name = spec.name
        name = spec.signature_name or DEFAULT_SIGNATURE
        if any(name == other.plan.name for other in tasks):
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        plan = model.plan(name)
        if plan is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name == CLASSIFY:
            _check_classification(model, plan.definition)
        elif task.method_name == REGRESS:
            _check_regression(model, plan.definition)
        else:
            raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
        tasks.append(_Task(plan=plan, method=task.method_name))
    return tasks


def _plan_of(
    model: LoadedModel, spec: Any, check: Callable[[LoadedModel, Any], None]
) -> SignaturePlan:
    plan = model.plan(spec.signature_name)
    if plan is None:
        name = spec.signature_name or DEFAULT_SIGNATURE
        raise invalid_argument(f"No signature was found with the name: {name}")
    check(model, plan.definition)
    return plan


def _check_predict_method(signature: Any) -> None:
    methods = (_PREDICT, CLASSIFY, REGRESS)
    if signature.method_name not in methods:
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(methods)}}}. Was: {signature.method_name}",
        )


def _check_method(model: LoadedModel, signature: Any, method: str, *, kind: str) -> None:
    if model.check_method_names and signature.method_name != method:
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )


def _check_classification(model: LoadedModel, signature: Any) -> None:
    _check_method(model, signature, CLASSIFY, kind="classification")
    check_classification(signature)


def _check_regression(model: LoadedModel, signature: Any) -> None:
    _check_method(model, signature, REGRESS, kind="regression")
    check_regression(signature)


def _run_examples(
    model: LoadedModel,
    plan: SignaturePlan,
    examples: np.ndarray,
    *,
    outputs: tuple[str, ...],
    deadline: float | None,
) -> Mapping[str, np.ndarray]:
    """Run a signature of one input on serialized Examples [B]."""
    (slot,) = plan.inputs
    if slot.dtype != _STRING:
        raise _wrong_type(slot.place, expected=slot.dtype, given=_STRING)
    return model.runner(plan, outputs).run({slot.name: examples}, deadline=deadline)


def _classify(
    model: LoadedModel,
    plan: SignaturePlan,
    examples: np.ndarray,
    result: Any,
    *,
    deadline: float | None,
) -> None:
    names = tuple(name for name in (CLASSES, SCORES) if name in plan.definition.outputs)
    outputs = _run_examples(model, plan, examples, outputs=names, deadline=deadline)
    write_classifications(result, outputs.get(CLASSES), outputs.get(SCORES), rows=len(examples))


def _regress(
    model: LoadedModel,
    plan: SignaturePlan,
    examples: np.ndarray,
    result: Any,
    *,
    deadline: float | None,
) -> None:
    outputs = _run_examples(model, plan, examples, outputs=(REGRESSIONS,), deadline=deadline)
    write_regressions(result, outputs[REGRESSIONS], rows=len(examples))


def _type_name(number: Any) -> str:
    """Return TensorFlow's own word for a type: float, double, string, int64."""
    return DataType.Name(number).removeprefix("DT_").lower()


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
