"""The `models.config` of a server: which models, where, which versions, under which labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.apis import ModelServerConfig, ModelType
from serving.errors import failed_precondition, invalid_argument
from serving.text_protos import read_text_proto

PLATFORM = "tensorflow"


@dataclass(frozen=True)
class LatestVersions:
    """The `count` highest versions."""

    count: int = 1

    def choose(self, found: Sequence[int]) -> list[int]:
        """Return those of the versions `found`, newest first, that are to be served."""
        return list(found[: self.count])


@dataclass(frozen=True)
class AllVersions:
    """Every version."""

    def choose(self, found: Sequence[int]) -> list[int]:
        """Return all of `found`."""
        return list(found)


@dataclass(frozen=True)
class SpecificVersions:
    """The versions named."""

    versions: frozenset[int]

    def choose(self, found: Sequence[int]) -> list[int]:
        """Return those of `found` that are named."""
        return [version for version in found if version in self.versions]


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


@dataclass(frozen=True)
class ModelEntry:
    """A model that is to be served."""

    name: str
    base_path: Path
    """The folder of its versions."""
    policy: VersionPolicy = LatestVersions()
    labels: Mapping[str, int] = field(default_factory=dict)
    """Versions by label."""


def single_model(name: str, base_path: Path) -> Any:
    """Return the ModelServerConfig of one model."""
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform=PLATFORM
    )
    return config


def read_model_config(path: Path, *, remedy: str = "") -> Any:
    """Return the ModelServerConfig in the text file `path`.

    Raises UserError, with the `remedy`, where the file cannot be read or is malformed.
    """
    return read_text_proto(path, ModelServerConfig(), remedy=remedy)


def model_entries(config: Any, *, platforms: Mapping[str, str] | None = None) -> list[ModelEntry]:
    """Return the models of a ModelServerConfig.

    `platforms` are those of the models served so far, by name. Raises ServingError as TF Serving
    does (server_core.cc, ServerCore::ReloadConfig): INVALID_ARGUMENT for a config without a list,
    a name twice, a relative path and a platform that is missing, unknown or changed.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    models = config.model_config_list.config
    _check_names(models)
    for model in models:
        if _is_relative(model.base_path):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )
    for model in models:
        _check_platform(model, before=(platforms or {}).get(model.name))
    return [_entry(model) for model in models]


def in_folder(config: Any, folder: Path) -> Any:
    """Return a copy of `config` whose models lie in `folder`, by their names.

    A bundle's own config has the paths inside TF Serving's container.
    """
    copy = ModelServerConfig()
    copy.CopyFrom(config)
    for model in copy.model_config_list.config:
        model.base_path = str(folder / model.name)
    return copy


def check_labels(
    entry: ModelEntry, *, available: Sequence[int], before: Mapping[str, int], unavailable_too: bool
) -> None:
    """Refuse labels for versions that do not answer; `before` are the model's labels so far.

    Raises ServingError (FAILED_PRECONDITION). With `unavailable_too`, only moving a label that is
    in use to such a version is refused (server_core.cc, UpdateModelVersionLabelMap).
    """
    for label, version in entry.labels.items():
        if version in available:
            continue
        if unavailable_too and before.get(label, version) == version:
            continue
        raise failed_precondition(
            f"Request to assign label to version {version} of model {entry.name}, "
            "which is not currently available for inference"
        )


def _check_names(models: Sequence[Any]) -> None:
    names: set[str] = set()
    for model in models:
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        if not model.name:
            raise invalid_argument("Illegal to list a model without a name in config list")
        names.add(model.name)


def _is_relative(path: str) -> bool:
    # A URI is no path on this machine; that it cannot be found says more than a refusal here.
    return not path.startswith("/") and re.match(r"[a-zA-Z][a-zA-Z0-9.]*://", path) is None


def _check_platform(model: Any, *, before: str | None) -> None:
    platform = model.model_platform
    if model.model_type != ModelType.MODEL_TYPE_UNSPECIFIED:
        if platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform."
            )
        if model.model_type != ModelType.TENSORFLOW:
            raise invalid_argument(
                f"ModelServerConfig::model_type choice {model.model_type} not supported."
            )
        platform = PLATFORM
    if not platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) "
            "nor ModelServerConfig::model_platform."
        )
    if before is not None and platform != before:
        raise invalid_argument(
            f"Illegal to change a model's platform. For model {model.name} platform was {before} "
            f"and new platform requested is {platform}"
        )
    if platform != PLATFORM:
        raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")


def _entry(model: Any) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        base_path=Path(model.base_path),
        policy=_policy(model.model_version_policy),
        labels=dict(model.version_labels),
    )


def _policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        return SpecificVersions(frozenset(policy.specific.versions))
    return LatestVersions(max(policy.latest.num_versions, 1))
