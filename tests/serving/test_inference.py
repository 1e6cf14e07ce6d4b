"""Classify, Regress and MultiInference as TF Serving's sources have them, and method names."""

import grpc
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import inference
from serving.errors import ServingError
from serving.loading import LoadSettings, load_model


@pytest.fixture(scope="module")
def model(example_model):
    loaded = load_model(example_model, name="m", version=7)
    yield loaded
    loaded.close()


def with_examples(request, *values, signature="", context=None):
    """Fill a request of Examples with feature x."""
    if hasattr(request, "model_spec"):
        request.model_spec.name = "m"
        request.model_spec.signature_name = signature
    examples = request.input.example_list
    if context is not None:
        examples = request.input.example_list_with_context
        examples.context.features.feature["x"].float_list.value.append(context)
    for value in values:
        example = examples.examples.add()
        if value is not None:
            example.features.feature["x"].float_list.value.append(value)
    return request


def classification(*values, **settings):
    return with_examples(classification_pb2.ClassificationRequest(), *values, **settings)


def regression(*values, **settings):
    return with_examples(regression_pb2.RegressionRequest(), *values, **settings)


def multi(*tasks, values=(2.0,)):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return with_examples(request, *values)


def refused(method, model, request):
    with pytest.raises(ServingError) as caught:
        method(model, request)
    return caught.value


def spec_of(message):
    spec = message.model_spec
    return (spec.name, spec.version.value, spec.signature_name)


def test_classes_and_scores(model):
    response = inference.classify(model, classification(2.0, -4.0))
    found = [
        [(label.label, label.score) for label in row.classes]
        for row in response.result.classifications
    ]
    assert found == [[("above", 3.0), ("below", -2.0)], [("below", 0.0), ("above", 4.0)]]
    assert spec_of(response) == ("m", 7, "serving_default")


def test_scores_without_classes_have_empty_labels(model):
    response = inference.classify(model, classification(2.0, signature="scores_only"))
    (row,) = response.result.classifications
    assert [(label.label, label.score) for label in row.classes] == [("", 3.0)]


def test_regressions(model):
    response = inference.regress(model, regression(2.0, 4.0, signature="regress"))
    assert [row.value for row in response.result.regressions] == [3.0, 4.0]
    assert spec_of(response) == ("m", 7, "regress")


def test_the_context_stands_in_where_an_example_has_no_feature(model):
    response = inference.regress(model, regression(None, 4.0, context=10.0, signature="regress"))
    assert [row.value for row in response.result.regressions] == [7.0, 4.0]


def test_several_signatures_at_once(model):
    request = multi(("m", "regress", "regress"), ("m", "", "classify"))
    regressed, classified = inference.multi_inference(model, request).results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    assert spec_of(regressed) == ("m", 7, "regress")
    assert spec_of(classified) == ("m", 7, "serving_default")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (classification(), "Input is empty."),
        (classification(context=1.0), "Input is empty."),
        (classification(1.0, signature="nope"), "No signature was found with the name: nope"),
        (classification(1.0, signature="add"), "Expected one input Tensor."),
        (classification(1.0, signature="other_input"), "No classification inputs found"),
        (classification(1.0, signature="regress"), 'at least one of "classes" or "scores"'),
        (
            classification(1.0, signature="flat_scores"),
            "Expected Tensor shape: [batch_size num_classes] but got [1]",
        ),
    ],
)
def test_refusals_of_classify(model, request_, text):
    error = refused(inference.classify, model, request_)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in str(error)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (regression(signature="regress"), "Input is empty."),
        (regression(1.0), "Expected one output Tensor."),
        (regression(1.0, signature="scores_only"), "No regression outputs found"),
        (
            regression(1.0, signature="regress_pair"),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            "but got [1,2]",
        ),
        (
            regression(1.0, signature="regress_whole"),
            "Expected output Tensor of DT_FLOAT.  Got: DT_INT32",
        ),
        (regression(None, signature="regress"), "x"),
    ],
)
def test_refusals_of_regress(model, request_, text):
    error = refused(inference.regress, model, request_)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in str(error)


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            multi(("m", "regress", "regress"), ("m", "regress", "regress")),
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: regress",
        ),
        (
            multi(("m", "regress", "regress"), ("n", "", "classify")),
            "INVALID_ARGUMENT",
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            multi(("m", "regress", "regress"), ("", "", "classify")),
            "INVALID_ARGUMENT",
            "Found ModelSpec with an empty model name.",
        ),
        (
            multi(("m", "nope", "regress")),
            "INVALID_ARGUMENT",
            "Requested signature not found in model graph: nope",
        ),
        (
            multi(("m", "regress", "predict")),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (multi(("m", "regress", "regress"), values=()), "INVALID_ARGUMENT", "Input is empty."),
    ],
)
def test_refusals_of_multi_inference(model, request_, code, text):
    error = refused(inference.multi_inference, model, request_)
    assert error.code.name == code
    assert text in str(error)


def test_method_names_matter_only_when_asked_for(example_model):
    settings = LoadSettings(check_method_names=True)
    strict = load_model(example_model, name="m", version=7, settings=settings)
    error = refused(inference.classify, strict, classification(1.0))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict" in str(
        error
    )
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "__saved_model_init_op"
    error = refused(inference.predict, strict, request)
    assert error.code is grpc.StatusCode.INTERNAL
    strict.close()
