"""The config file: what is refused and how, and what a short one means in full."""

from pathlib import Path

import pytest
import yaml

from interactions.errors import UserError
from tandem.config import dump_config, load_config, parse_config

ROOT = Path(__file__).parents[2]
MINIMAL = {"data": {"events": "ratings.csv", "user_id": "userId", "item_id": "movieId"}}
RATING = {"kind": "regression", "column": "rating"}


def refusal(content):
    with pytest.raises(UserError) as caught:
        parse_config(content, base=Path("/data"), source="mine.yaml")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("mine.yaml: ")
    return text


def with_tasks(**tasks):
    return MINIMAL | {"tasks": {"retrieval": {}} | tasks}


@pytest.mark.parametrize(
    ("content", "path", "allowed"),
    [
        (MINIMAL | {"retreival": {}}, "retreival", ["retrieval", "ranking", "split"]),
        (MINIMAL | {"retrieval": {"dim": 3}}, "retrieval.dim", ["embedding_dim", "history"]),
        (
            MINIMAL | {"ranking": {"schedule": {"epochs": 3}}},
            "ranking.schedule.epochs",
            ["max_epochs", "patience"],
        ),
        ({"data": {"events": "a.csv", "file": "b.csv"}}, "data.file", ["events", "items"]),
        (
            {"data": {"events": "a", "item_features": [{"name": "x", "kind": "text", "sep": 1}]}},
            "data.item_features.0.sep",
            ["separator", "column"],
        ),
        (with_tasks(rating=RATING | {"wieght": 1}), "tasks.rating.wieght", ["weight", "range"]),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_what_is_allowed(content, path, allowed):
    text = refusal(content)
    assert f"{path}: unknown key; allowed here: " in text
    assert all(key in text for key in allowed)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, ["data", "needed"]),
        ({"data": {}}, ["data.events", "needed"]),
        ({"data": {"events": 3}}, ["data.events: 3", "a valid string, or", "a valid list"]),
        (MINIMAL | {"seed": "one"}, ["seed", "'one'", "integer"]),
        (MINIMAL | {"repeats": "yes"}, ["repeats", "'yes'", "'remove' or 'keep'"]),
        (MINIMAL | {"split": {"kind": "weekly"}}, ["split.kind", "'weekly'", "leave_last_out"]),
        (MINIMAL | {"split": {"test": 0.9}}, ["split", "leave at least 0.1"]),
        (MINIMAL | {"split": {"test": 0}}, ["split.test", "0", "greater than 0"]),
        (MINIMAL | {"retrieval": {"dropout": 1}}, ["retrieval.dropout", "1", "less than 1"]),
        (MINIMAL | {"retrieval": 3}, ["retrieval: 3", "keys and values"]),
        (
            MINIMAL | {"ranking": {"order": {"retrieval": "x"}}},
            ["ranking.order.retrieval: 'x'", "number"],
        ),
        (MINIMAL | {"ranking": {"order": {"rating": 1}}}, ["ranking.order", "rating"]),
        (MINIMAL | {"ranking": {"order": {"retrieval": -1}}}, ["ranking.order", "-1", "at least"]),
        (MINIMAL | {"export": {"max_k": 0}}, ["export.max_k", "0"]),
        (MINIMAL | {"export": {"max_k": 300}}, ["export.max_k", "300", "ranking.candidates = 200"]),
        (with_tasks(rating=RATING | {"weight": -0.5}), ["tasks.rating.weight", "-0.5"]),
        (with_tasks(retrieval={"weight": 0}), ["tasks.retrieval.weight is 0"]),
        (with_tasks(rating={"kind": "regression"}), ["tasks.rating", "column"]),
        (with_tasks(buy={"kind": "binary", "event": ["buy"]}), ["tasks.buy.event", "data.event"]),
        (MINIMAL | {"tasks": {"rating": RATING}}, ["tasks", "retrieval"]),
        (with_tasks(**{"add to.cart": RATING}), ["tasks", "'add to.cart'", "letters, digits"]),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_with_its_path_and_what_is_allowed(content, says):
    text = refusal(content)
    assert [part for part in says if part not in text] == [], text


def test_all_mistakes_are_named_at_once():
    text = refusal(MINIMAL | {"seed": "one", "retrieval": {"dim": 3}})
    assert "seed" in text and "retrieval.dim" in text


def test_a_task_without_weight_is_not_trained():
    config = parse_config(with_tasks(rating=RATING | {"weight": 0}), base=Path("/data"))
    assert set(config.tasks) == {"retrieval", "rating"}
    assert set(config.trained_tasks) == {"retrieval"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read the config file"),
        (b"", "must hold keys and values"),
        (b"- data\n", "must hold keys and values"),
        (b"data: {events: [a\n", "not valid YAML"),
        (b"data: \xff\xfe\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path, content, says):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_are_relative_to_the_config_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {events: [a.csv, ../b.csv], items: /abs/items.csv}")
    data = load_config(file).data
    assert data.events == (str(tmp_path / "a.csv"), str(tmp_path / "../b.csv"))
    assert data.items == "/abs/items.csv"
    assert data.users is None


def test_the_expanded_config_of_the_shortest_file_is_as_recorded():
    """A changed default moves everybody's scores: change the golden file only on purpose."""
    expanded = dump_config(parse_config(MINIMAL, base=Path("/data")))
    assert expanded == (ROOT / "tests/golden/config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.stem)
def test_the_shipped_configs_are_valid_and_survive_being_written_out(file):
    config = load_config(file)
    assert len(config.trained_tasks) > 1
    again = parse_config(yaml.safe_load(dump_config(config)), base=Path("/elsewhere"))
    assert again == config


def tasks_with(**given):
    binary = {"kind": "binary"}
    return {
        "retrieval": {"weight": 1.0},
        "view": {**binary, "column": "view", **given.get("view", {})},
        "buy": {**binary, "column": "buy", "given": "view", **given.get("buy", {})},
        "rating": {"kind": "regression", "column": "rating", **given.get("rating", {})},
    }


def test_a_task_may_be_given_another(tmp_path):
    config = parse_config({**MINIMAL, "tasks": tasks_with()}, base=tmp_path)
    assert config.tasks["buy"].given == "view"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"view": {"given": "buy"}}, r"circle \(view -> buy -> view\)"),
        ({"buy": {"given": "buy"}}, "circle"),
        ({"buy": {"given": "rating"}}, "no binary task"),
        ({"buy": {"given": "wish"}}, r"'wish'.*\['view', 'buy'\]"),
        ({"view": {"weight": 0}}, "weight is 0"),
        ({"rating": {"given": "view"}}, "only a binary task"),
        ({"buy": {"weight": -1}}, "greater than or equal to 0"),
    ],
)
def test_a_task_that_is_given_what_cannot_be_is_refused(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        parse_config({**MINIMAL, "tasks": tasks_with(**changes)}, base=tmp_path)
