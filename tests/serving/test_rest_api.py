"""REST without the wire: the answers and errors of TF Serving's own tests, and more rules."""

import json
from typing import Any

import numpy as np
import pytest

from features.backend import tf
from serving.loading import load_model
from serving.rest_api import RestApi
from serving.rollout import Rollout
from serving.services import Services
from serving.table import ServableTable

VERSION = 123


def signature(inputs, outputs, method="tensorflow/serving/predict"):
    info = tf.compat.v1.saved_model.utils.build_tensor_info
    return tf.compat.v1.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        method,
    )


def save_half_plus_two(folder):
    """A model like TF Serving's half_plus_two, with echoes of all types beside."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        x = v1.placeholder(tf.float32, None, "x")
        y = x * 0.5 + 2.0
        examples = v1.placeholder(tf.string, [None], "examples")
        parsed: Any = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})[
            "x"
        ]
        parsed_y = parsed * 0.5 + 2.0
        words = v1.placeholder(tf.string, None, "words")
        numbers = v1.placeholder(tf.int64, None, "numbers")
        echoes = {
            dtype.name: v1.placeholder(dtype, None, dtype.name)
            for dtype in (tf.bool, tf.int8, tf.uint8, tf.int32, tf.int64, tf.uint64, tf.float64)
        }
        half = v1.placeholder(tf.float16, None, "half")
        signatures = {
            "serving_default": signature({"x": x}, {"y": y}),
            "regress_x_to_y": signature(
                {"inputs": examples}, {"outputs": parsed_y}, "tensorflow/serving/regress"
            ),
            "classify_x_to_y": signature(
                {"inputs": examples}, {"scores": parsed_y}, "tensorflow/serving/classify"
            ),
            "words": signature(
                {"words": words}, {"same": tf.identity(words), "raw_bytes": tf.identity(words)}
            ),
            "named": signature(
                {"x": x, "numbers": numbers}, {"y": y, "numbers": tf.identity(numbers)}
            ),
            "total": signature({"x": x}, {"total": tf.reduce_sum(x)}),
            "half": signature({"half": half}, {"half": tf.identity(half)}),
            "to_half": signature({"x": x}, {"half": tf.cast(x, tf.float16)}),
        } | {name: signature({name: at}, {name: tf.identity(at)}) for name, at in echoes.items()}
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rest") / str(VERSION)
    save_half_plus_two(folder)
    table = ServableTable()

    def load(name="half", version=VERSION, path=folder):
        return load_model(path, name=name, version=version)

    table.load("half", version=VERSION, path=folder, load=load)
    yield RestApi(Services(table, Rollout(table, load)))
    table.close()


@pytest.fixture(scope="module")
def post(api):
    def ask(body, path="half:predict", raw=False):
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        answer = api.answer("POST", f"/v1/models/{path}", body)
        return answer if raw else (answer.status, json.loads(answer.body))

    return ask


def predicted(post, body, path="half:predict"):
    status, answer = post(body, path)
    assert status == 200, answer
    return answer


def refusal(post, body, path="half:predict", status=400):
    found, answer = post(body, path)
    assert (found, list(answer)) == (status, ["error"])
    return answer["error"]


@pytest.mark.parametrize("path", ["half:predict", f"half/versions/{VERSION}:predict"])
def test_predict_by_rows_and_columns(post, path):
    assert predicted(post, {"instances": [1.0, 2.0]}, path) == {"predictions": [2.5, 3.0]}
    rows = {"instances": [[1.0, 2.0], [3.0, 4.0]], "signature_name": "serving_default"}
    assert predicted(post, rows, path) == {"predictions": [[2.5, 3.0], [3.5, 4.0]]}
    assert predicted(post, {"inputs": [3, 4]}, path) == {"outputs": [3.5, 4.0]}
    assert predicted(post, {"inputs": {"x": 3}}, path) == {"outputs": 3.5}
    assert predicted(post, {"instances": [{"x": [1]}, {"x": [2]}]}, path) == {
        "predictions": [[2.5], [3.0]]
    }


def test_several_outputs_keep_their_names(post):
    rows = {"signature_name": "named", "instances": [{"x": 2, "numbers": 7}]}
    assert predicted(post, rows) == {"predictions": [{"numbers": 7, "y": 3.0}]}
    columns = {"signature_name": "named", "inputs": {"x": [2], "numbers": [7, 8]}}
    assert predicted(post, columns) == {"outputs": {"numbers": [7, 8], "y": [3.0]}}
    ragged = {"signature_name": "named", "inputs": {"x": [2], "numbers": [7, 8]}}
    assert post(ragged)[0] == 200


def test_bytes_in_and_out(post):
    body = {"signature_name": "words", "instances": [{"b64": "aGk="}, "zoë"]}
    assert predicted(post, body) == {
        "predictions": [
            {"same": "hi", "raw_bytes": {"b64": "aGk="}},
            {"same": "zoë", "raw_bytes": {"b64": "em/Dqw=="}},
        ]
    }


def test_bytes_that_are_no_utf8_pass_through(post):
    body = b'{"signature_name": "words", "inputs": ["\xff\xfe"]}'
    answer = post(body, raw=True)
    assert answer.status == 200
    assert b'"\xff\xfe"' in answer.body and b'"b64": "//4="' in answer.body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int64", -(2**63)), ("int64", 2**63 - 1), ("uint64", 2**64 - 1), ("int32", -(2**31)),
        ("uint8", 255), ("int8", -128), ("bool", True), ("double", 0.1),
    ],
)  # fmt: skip
def test_every_type_is_exact(post, name, value):
    name = {"double": "float64"}.get(name, name)
    body = {"signature_name": name, "inputs": [value, value]}
    assert predicted(post, body) == {"outputs": [value, value]}


def test_layout_of_the_text(post):
    assert post({"instances": [[1, 2], [3, 4]]}, raw=True).body == (
        b'{\n    "predictions": [[2.5, 3.0], [3.5, 4.0]\n    ]\n}'
    )
    assert post({"inputs": [1]}, raw=True).body == (b'{\n    "outputs": [\n        2.5\n    ]\n}')
    assert post("x", raw=True).body == (
        b'{\n    "error": "JSON Parse error: Invalid value. at offset: 0"\n}'
    )


def test_numbers_that_are_not_finite(post):
    answer = post('{"instances": [NaN, Infinity, -Infinity]}', raw=True)
    assert answer.body.replace(b"\n", b"") == b'{    "predictions": [NaN, Infinity, -Infinity    ]}'


def test_classify_and_regress(post):
    examples = {"examples": [{"x": 80.0}, {"x": 20.0}]}
    regress = {"signature_name": "regress_x_to_y", **examples}
    assert predicted(post, regress, "half:regress") == {"results": [42.0, 12.0]}
    classify = {"signature_name": "classify_x_to_y", **examples}
    assert predicted(post, classify, "half:classify") == {"results": [[["", 42.0]], [["", 12.0]]]}
    context = {"signature_name": "regress_x_to_y", "context": {"x": 80.0}, "examples": [{}]}
    assert predicted(post, context, "half:regress") == {"results": [42.0]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        ("[1]", "JSON Value: [\n    1\n] Is not object"),
        ({"signature_name": 5, "inputs": 1}, "'signature_name' key must be a string value."),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
        ({"instances": 1}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": ["a"]}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"instances": [[1], [2, 3]]}, "Expecting tensor size: 1 but got: 2"),
        ({"instances": [[1], [[2]]]}, "Expecting shape [1] but got: [1,1]"),
        ({"instances": [[1, [2]]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[[1], 2]]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM."),
        ({"inputs": [[1], [2, 3]]}, "Encountered list at unexpected size: 2 at level: 1"),
        ({"instances": [1, {"x": 1}]}, "Expecting value/list but got object at item 1"),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1"),
        ({"instances": [{"z": 1}]}, "JSON object: does not have named input: z"),
        ({"instances": [{"x": 1}, {}]}, "JSON object: {} keys must be equal to: x"),
        ({"inputs": {"z": 1}}, "Missing named input: x in 'inputs' object."),
        ({"signature_name": "named", "inputs": [1]}, "inputs is a plain value/list"),
        ({"signature_name": "named", "instances": [1]}, "instances is a plain list"),
        ({"instances": [16777217]}, "16777217 to float without loss of precision."),
        ({"instances": [1e39]}, "JSON value: 1e+39 to float without loss of precision."),
        ('{"instances": [1e999]}', "Number too big to be stored in double. at offset: 15"),
        ({"signature_name": "float64", "inputs": [2**53]}, "to double without loss of precision."),
        ({"signature_name": "int32", "inputs": [2**31]}, "is not of expected type: int32"),
        ({"signature_name": "int64", "inputs": [1.0]}, "JSON Value: 1.0 Type: Number is not"),
        ({"signature_name": "int64", "inputs": [2**63]}, "is not of expected type: int64"),
        ({"signature_name": "bool", "inputs": [1]}, "is not of expected type: bool"),
        ({"inputs": [True]}, "JSON Value: true Type: True is not of expected type: float"),
        ({"inputs": None}, "JSON Value: null Type: Null is not of expected type: float"),
        ({"signature_name": "words", "inputs": {"b64": "!"}}, "Unable to base64 decode"),
        ({"signature_name": "words", "inputs": [{"b": 1}]}, "not formatted correctly for base64"),
        ({"signature_name": "nope", "inputs": 1}, 'Serving signature name: "nope" not found in'),
        ({"signature_name": "total", "instances": [1]}, "Tensor name: total has no shape inform"),
        ({"signature_name": "to_half", "instances": [1]}, "JSON value for tensor type: half"),
    ],
)  # fmt: skip
def test_refused_predictions(post, body, text):
    assert text in refusal(post, body)


def test_strings_of_as_many_dimensions_as_a_body_can_nest(post):
    """TensorFlow's session dies of a tensor of strings with more than 32 dimensions."""
    body = b'{"signature_name": "words", "inputs": %s"a"%s}'
    status, answer = post(body % (b"[" * 32, b"]" * 32))
    assert status == 200 and "raw_bytes" in answer["outputs"]
    assert "Nested deeper than" in refusal(post, body % (b"[" * 33, b"]" * 33))


def test_rows_of_different_number_have_no_row_layout(post):
    body = {"signature_name": "total", "inputs": [1, 2]}
    assert predicted(post, body) == {"outputs": 3.0}


def test_types_without_json_are_unimplemented(post):
    text = refusal(post, {"signature_name": "half", "inputs": [1]}, status=501)
    assert text == "Conversion of JSON Value: 1 to type: half"


@pytest.mark.parametrize("method", ["classify", "regress"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"context": [{}], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": [[]]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"n": [1, None]}]}, "n has element with unexpected JSON type: Null"),
        ({"examples": [{"n": [1, 1.0]}]}, "type in feature: n expecting type: int64"),
        ({"examples": [{"n": [1, {"test": 1}]}]}, "n has element with unexpected JSON type: Obj"),
        ({"examples": [{"n": [[1], 2]}]}, "n has element with unexpected JSON type: Array"),
        ({"examples": [{"n": 2**64 - 1}]}, "has uint64 element. Only int64 is supported."),
        ({"examples": [{"n": 1e308}]}, "loss of precision"),
        ({"signature_name": ["a"], "examples": [{}]}, "'signature_name' key must be a string"),
    ],
)  # fmt: skip
def test_refused_examples(post, method, body, text):
    assert text in refusal(post, body, f"half:{method}")


def test_the_first_of_two_keys_counts_in_requests_and_the_last_in_examples(post):
    assert predicted(post, '{"inputs": [1], "inputs": [2]}') == {"outputs": [2.5]}
    assert predicted(post, '{"instances": [{"x": 1, "x": 2}]}') == {"predictions": [2.5]}
    body = '{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0, "x": 80.0}]}'
    assert predicted(post, body, "half:regress") == {"results": [42.0]}


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models", 400, "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/half:predict", 400, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "/v1/models/half:PREDICT", 400, "Malformed request"),
        ("POST", "/v1/models/half:predict?x=1", 400, "Malformed request"),
        ("PUT", "/v1/models/half", 400, "Malformed request: PUT /v1/models/half"),
        ("POST", "/v1/models/half/version/5:regress", 400, "Malformed request"),
        ("POST", "/v1/models/half/versions/HELLO:regress", 400, "Malformed request"),
        (
            "POST", "/v1/models/half/versions/18446744073709551615:regress", 400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("POST", "/v1/models/foo:predict", 404, "Servable not found for request: Latest(foo)"),
        (
            "POST", "/v1/models/half/versions/9:predict", 404,
            "Servable not found for request: Specific(half, 9)",
        ),
        ("POST", "/v1/models/half/labels/stable:predict", 400, "stable"),
        ("POST", "/v1/models/a%2Fb%20c:predict", 404, "Latest(a/b c)"),
        ("GET", "/v1/models/foo", 404, "Could not find any versions of model foo"),
        ("GET", "/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        ("GET", "/v1/models/foo/metadata", 404, "Servable not found for request: Latest(foo)"),
        ("GET", "/v1/models/half/METADATA", 200, None),
    ],
)  # fmt: skip
def test_paths(api, method, target, status, text):
    answer = api.answer(method, target, b'{"instances": [1], "examples": [{}]}')
    assert answer.status == status
    if text is not None:
        assert text in json.loads(answer.body)["error"]


@pytest.mark.parametrize(
    "path", ["/v1/models/half", "/V1/MODELS/half", f"/v1/models/half/versions/{VERSION}"]
)
def test_status(api, path):
    answer = api.answer("GET", path)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_metadata(api):
    answer = json.loads(api.answer("GET", "/v1/models/half/metadata").body)
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "name": "x:0",
        "tensor_shape": {"dim": [], "unknown_rank": True},
    }
    assert signatures["words"]["method_name"] == "tensorflow/serving/predict"


def test_a_large_batch_gives_each_row_its_answer(post):
    x = np.random.default_rng(3).normal(size=(50, 20)).astype(np.float32)
    answer = predicted(post, {"instances": x.tolist()})
    np.testing.assert_array_equal(
        np.array(answer["predictions"], np.float32), x * np.float32(0.5) + np.float32(2)
    )
