"""The one config file: every stage's section, read, checked and written out in full."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from export.config import ExportConfig
from features.config import FeaturesConfig
from interactions.config import Config, DataConfig, SplitConfig, TaskConfig
from interactions.errors import UserError
from ranking.config import LOGGING_POLICY, RankingConfig
from retrieval.config import RetrievalConfig

_TYPE = re.compile(r"str|tuple\[.*\]|dict\[.*\]|literal\[.*\]")
"""How pydantic names a type in the place of a key."""
_TASK_NAME = re.compile(r"\w[\w-]*", re.ASCII)
"""What may stand in the name of a variable and before the dot of a metric."""


class TandemConfig(Config):
    """Everything a run depends on; a file that names the data and its columns is enough."""

    data: DataConfig
    tasks: dict[str, TaskConfig] = Field(default_factory=lambda: {"retrieval": TaskConfig()})
    split: SplitConfig = SplitConfig()
    repeats: Literal["remove", "keep"] = "remove"
    """Whether items that a user has chosen before may be recommended again."""
    refit: Literal["none", "all"] = "none"
    """`all` trains the exported models on every window, with all choices frozen."""
    features: FeaturesConfig = FeaturesConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    export: ExportConfig = ExportConfig()
    seed: int = 0

    @model_validator(mode="after")
    def _tasks_fit_together(self) -> Self:
        kinds = {name: task.kind for name, task in self.tasks.items()}
        if kinds.get("retrieval") != "retrieval" or list(kinds.values()).count("retrieval") > 1:
            raise ValueError(
                "tasks: exactly one task is of kind retrieval, and its name is `retrieval`; "
                "add `retrieval: {weight: 1.0}`"
            )
        if self.tasks["retrieval"].weight == 0:
            raise ValueError(
                "tasks.retrieval.weight is 0, but the order needs it; give it a weight"
            )
        if LOGGING_POLICY in self.tasks:
            raise ValueError(
                f"tasks.{LOGGING_POLICY}: the ranker calls what it learns of data.propensity so; "
                "give the task another name"
            )
        for name, task in self.tasks.items():
            if not _TASK_NAME.fullmatch(name):
                raise ValueError(
                    f"tasks: {name!r} is no name of a task; write letters, digits, _ and -, "
                    "and no - first"
                )
            if task.event and self.data.event is None:
                raise ValueError(
                    f"tasks.{name}.event needs a log with event types; set data.event, "
                    f"or give tasks.{name}.column"
                )
            self._check_given(name, task)
        if self.export.max_k > self.ranking.candidates:
            raise ValueError(
                f"export.max_k is {self.export.max_k}, but only ranking.candidates = "
                f"{self.ranking.candidates} items are ranked; lower the first or raise the second"
            )
        if self.ranking.order != "auto":
            unknown = sorted(set(self.ranking.order) - set(kinds))
            if unknown:
                raise ValueError(
                    f"ranking.order names unknown tasks {unknown}; there are {list(kinds)}"
                )
        return self

    def _check_given(self, name: str, task: TaskConfig) -> None:
        """Refuse a task that is given another which is not there, not binary, or given it."""
        path = [name]
        while task.given is not None:
            given, path = task.given, [*path, task.given]
            if given in path[:-1]:
                raise ValueError(
                    f"tasks.{name}.given goes round in a circle ({' -> '.join(path)}); "
                    "leave out one of them"
                )
            if given not in self.tasks or self.tasks[given].kind != "binary":
                binary = [one for one, other in self.tasks.items() if other.kind == "binary"]
                raise ValueError(
                    f"tasks.{path[-2]}.given names {given!r}, which is no binary task; there are "
                    f"{binary}"
                )
            if self.tasks[given].weight == 0 < self.tasks[name].weight:
                raise ValueError(
                    f"tasks.{path[-2]}.given names {given!r}, whose weight is 0, so that nobody "
                    "trains it; give it a weight"
                )
            task = self.tasks[given]

    @property
    def trained_tasks(self) -> dict[str, TaskConfig]:
        """The tasks with a weight; nobody trains a head whose weight is 0."""
        return {name: task for name, task in self.tasks.items() if task.weight > 0}


def load_config(path: Path) -> TandemConfig:
    """Read a YAML config file.

    Raises:
        UserError: the file is missing or no YAML, or a key is unknown or has an impossible value;
            the message has the key's path, the value and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, beginning with `data:`")
    return parse_config(content, base=path.resolve().parent, source=str(path))


def parse_config(content: dict[str, Any], *, base: Path, source: str = "config") -> TandemConfig:
    """Check a config given as plain values, its paths relative to `base`.

    Raises `UserError` as `load_config` does.
    """
    try:
        config = TandemConfig.model_validate(content)
        return config.model_copy(update={"data": _located(config.data, base)})
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error.errors())}") from error


def _located(data: DataConfig, base: Path) -> DataConfig:
    """Make the paths absolute, so that a run can be judged and exported from anywhere."""

    def absolute(path: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(path, str):
            return str(base / path)
        return path if path is None else tuple(str(base / one) for one in path)

    paths = {name: absolute(getattr(data, name)) for name in ("events", "items", "users")}
    return data.model_copy(update=paths)


def _explain(errors: Sequence[Any]) -> str:
    """Say what is wrong in one line; of a value that may be of several types, only once."""
    reasons: dict[str, list[str]] = {}
    for error in errors:
        reasons.setdefault(_path(error["loc"]), []).append(_reason(error))
    outer = [path for path in reasons if any(p.startswith(f"{path}.") for p in reasons)]
    return "; ".join(
        f"{path}: {', or '.join(dict.fromkeys(given))}"
        for path, given in reasons.items()
        if path not in outer
    )


def _path(location: tuple[int | str, ...]) -> str:
    """Join the keys; of a value that may be of several types, pydantic names each type too."""
    keys = (str(part) for part in location if not _TYPE.fullmatch(str(part)))
    return ".".join(keys) or "config"


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; allowed here: {', '.join(_siblings(error['loc']))}"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return "this key is needed"
    if error["type"] in ("model_type", "dict_type"):
        return f"{error['input']!r} is not possible: it should hold keys and values"
    message = error["msg"].replace("valid tuple", "valid list").removeprefix("Input ")
    return f"{error['input']!r} is not possible: it {message}"


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the section of an unknown key has."""
    model: Any = TandemConfig
    for part in location[:-1]:
        if isinstance(part, str) and hasattr(model, "model_fields") and part in model.model_fields:
            model = _section(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _section(annotation: Any) -> Any:
    """Find the config class inside an annotation such as `tuple[FeatureConfig, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    found = (_section(part) for part in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)


def dump_config(config: TandemConfig) -> str:
    """Write the config as YAML with every default spelled out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
