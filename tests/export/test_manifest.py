import copy
import json

import pytest
from jsonschema import Draft202012Validator

from export.manifest import MANIFEST, SCHEMA, Manifest, read_bundle
from interactions.errors import UserError


@pytest.fixture
def written(exported_bundle):
    """The content of a manifest."""
    return json.loads((exported_bundle.folder / MANIFEST).read_text())


@pytest.fixture
def validator():
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


def test_the_schema_is_that_of_the_manifest():
    assert SCHEMA.read_text() == Manifest.json_schema(), (
        "write export/manifest.schema.json anew from Manifest.json_schema()"
    )


def test_a_manifest_keeps_to_the_schema(written, validator):
    validator.validate(written)


def changed(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "one"),
        (("version",), 0),
        (("index", "recall"), 1.5),
        (("index", "kind"), "lsh"),
        (("parity",), None),
        (("surprise",), 1),
        (("signatures", "recommender", "serving_default", "inputs"), []),
    ],
)
def test_schema_and_reader_refuse_the_same(written, validator, tmp_path, path, value):
    broken = changed(written, path, value)
    assert list(validator.iter_errors(broken))
    (tmp_path / MANIFEST).write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"manifest\.json is broken .*export the bundle again"):
        read_bundle(tmp_path)


def test_a_manifest_of_a_later_version_of_tandem_is_refused_with_a_remedy(written, tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps(written | {"format": 99, "surprise": 1}))
    with pytest.raises(UserError, match="update Tandem"):
        read_bundle(tmp_path)
