"""Which model and version is picked, and what the states say."""

import shutil

import grpc
import pytest

from interactions.errors import UserError
from serving.errors import ServingError
from serving.tensors import to_tensor
from serving.versions import (
    ModelEntry,
    ServableTable,
    State,
    find_versions,
    load_newest,
    read_model_config,
)


def test_folder_names_parse_as_int64(tmp_path):
    for name in ("1", "00000123", "22", "-4", "3.tmp", "latest", "9223372036854775808", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "500").write_text("a file")
    assert list(find_versions(tmp_path)) == [123, 22, 1]
    assert find_versions(tmp_path)[123].name == "00000123"


def test_a_missing_folder_has_no_versions(tmp_path):
    assert find_versions(tmp_path / "nope") == {}


def test_the_highest_version_is_loaded(tmp_path, saved_model):
    for name in ("2", "10", "9"):
        shutil.copytree(saved_model, tmp_path / name)
    table = ServableTable()
    load_newest(table, ModelEntry(name="m", base_path=tmp_path))
    assert table.get("m").version == 10
    assert [state.version for state in table.states("m")] == [10]
    table.close()


def test_states_from_available_to_end(saved_model):
    table = ServableTable()
    for version in (1, 2):
        assert table.load("m", version=version, path=saved_model).state is State.AVAILABLE
    assert [state.version for state in table.states("m")] == [2, 1]
    assert table.get("m").version == 2
    older = table.get("m", version=1)
    assert older.model.predict({"user_id": to_tensor(["ann"])}).outputs["count"].tolist() == [4]
    table.close()
    assert {state.state for state in table.states("m")} == {State.END}
    with pytest.raises(ServingError) as caught:
        table.get("m")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_a_failed_load_is_end_with_its_error_and_leaves_the_others(tmp_path, saved_model):
    table = ServableTable()
    table.load("m", version=1, path=saved_model)
    (tmp_path / "2").mkdir()
    state = table.load("m", version=2, path=tmp_path / "2")
    assert state.state is State.END
    assert state.error is not None
    assert str(tmp_path / "2") in str(state.error)
    assert table.get("m").version == 1
    table.close()


def config(folder, text):
    path = folder / "models.config"
    path.write_text(text)
    return path


def entry(name="m", platform='model_platform: "tensorflow"', more=""):
    return f'config {{ name: "{name}" base_path: "/models/{name}" {platform} {more} }}'


def listing(**settings):
    return f"model_config_list {{ {entry(**settings)} }}"


def test_config_lists_models(tmp_path):
    text = f"model_config_list {{ {entry('a')} {entry('b')} }}\n# {entry('c')}"
    entries = read_model_config(config(tmp_path, text))
    assert [(e.name, str(e.base_path)) for e in entries] == [
        ("a", "/models/a"),
        ("b", "/models/b"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model_config_list {", "not a model server config"),
        ("", "lists no model"),
        (f"model_config_list {{ {entry('a')} {entry('a')} }}", "'a' stands twice"),
        (listing(platform=""), "platform ''"),
        (listing(platform='model_platform: "jax"'), "platform 'jax'"),
        (
            listing(more='version_labels { key: "x" value: 1 }'),
            "version_labels",
        ),
        (
            listing(more="model_version_policy { all {} }"),
            "model_version_policy",
        ),
        ('model_config_list { config { name: "m" } }', "no base_path"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(tmp_path, text, why):
    path = config(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_model_config(path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
