"""What a models.config may say, and with which words it is refused."""

from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from interactions.errors import UserError
from serving.errors import ServingError
from serving.model_config import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    check_labels,
    in_folder,
    model_entries,
    read_model_config,
)


def entry(name="m", *, path=None, platform='model_platform: "tensorflow"', more=""):
    return f'config {{ name: "{name}" base_path: "{path or f"/models/{name}"}" {platform} {more} }}'


def listing(*entries):
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(f"model_config_list {{ {' '.join(entries)} }}", config)
    return config


def test_entries_have_name_path_policy_and_labels():
    more = (
        'model_version_policy { latest { num_versions: 2 } } version_labels { key: "s" value: 4 }'
    )
    first, second = model_entries(listing(entry("a"), entry("b", more=more)))
    assert (first.name, first.base_path) == ("a", Path("/models/a"))
    assert first.policy == LatestVersions(1)
    assert first.labels == {}
    assert second.policy == LatestVersions(2)
    assert second.labels == {"s": 4}


@pytest.mark.parametrize(
    ("policy", "expected", "chosen"),
    [
        ("", LatestVersions(1), [5]),
        ("latest {}", LatestVersions(1), [5]),
        ("latest { num_versions: 2 }", LatestVersions(2), [5, 3]),
        ("all {}", AllVersions(), [5, 3, 2]),
        (
            "specific { versions: 2 versions: 9 versions: 5 }",
            SpecificVersions(frozenset({2, 9, 5})),
            [5, 2],
        ),
    ],
)
def test_policies(policy, expected, chosen):
    (found,) = model_entries(listing(entry(more=f"model_version_policy {{ {policy} }}")))
    assert found.policy == expected
    assert found.policy.choose([5, 3, 2]) == chosen


def test_the_deprecated_type_stands_for_the_platform():
    (found,) = model_entries(listing(entry(platform="model_type: TENSORFLOW")))
    assert found.name == "m"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            model_server_config_pb2.ModelServerConfig(),
            "Only ModelConfigList is currently supported",
        ),
        (listing(entry("a"), entry("a")), "Illegal to list model a multiple times in config list"),
        (
            listing(entry(path="models/m")),
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (listing(entry(platform="")), "Illegal setting neither ModelServerConfig::model_type"),
        (
            listing(entry(platform='model_platform: "jax"')),
            "Model m requests unsupported platform jax",
        ),
        (
            listing(entry(platform='model_type: TENSORFLOW model_platform: "tensorflow"')),
            "Illegal setting both ModelServerConfig::model_type",
        ),
        (listing(entry(platform="model_type: OTHER")), "model_type choice 2 not supported"),
    ],
)
def test_refusals(config, text):
    with pytest.raises(ServingError) as caught:
        model_entries(config)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in str(caught.value)


def test_a_platform_cannot_change():
    config = listing(entry(platform='model_platform: "jax"'))
    with pytest.raises(ServingError) as caught:
        model_entries(config, platforms={"m": "tensorflow"})
    assert str(caught.value) == (
        "Illegal to change a model's platform. For model m platform was tensorflow "
        "and new platform requested is jax"
    )


def check(labels, **settings):
    more = " ".join(f'version_labels {{ key: "{k}" value: {v} }}' for k, v in labels.items())
    (found,) = model_entries(listing(entry(more=more)))
    check_labels(found, **{"available": [1], "before": {}, "unavailable_too": False, **settings})


def test_labels_need_an_available_version():
    check({"stable": 1})
    with pytest.raises(ServingError) as caught:
        check({"stable": 2})
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert str(caught.value) == (
        "Request to assign label to version 2 of model m, "
        "which is not currently available for inference"
    )


def test_new_labels_may_come_early_where_that_is_allowed():
    check({"canary": 2}, unavailable_too=True)
    check({"canary": 2}, unavailable_too=True, before={"canary": 2})
    with pytest.raises(ServingError):
        check({"canary": 2}, unavailable_too=True, before={"canary": 1})


def test_a_file_is_read_and_moved_into_a_folder(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(f"# models\nmodel_config_list {{ {entry('a')} }}")
    config = read_model_config(path)
    assert config.model_config_list.config[0].base_path == "/models/a"
    moved = in_folder(config, tmp_path)
    assert moved.model_config_list.config[0].base_path == str(tmp_path / "a")
    assert config.model_config_list.config[0].base_path == "/models/a"


@pytest.mark.parametrize("content", [b"model_config_list {", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "models.config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_model_config(path, remedy="write another")
    assert str(path) in str(caught.value)
    assert "write another" in str(caught.value)
    assert "\n" not in str(caught.value)
