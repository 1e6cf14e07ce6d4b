"""Which models and versions are served: the config file, version folders, and their states."""

from __future__ import annotations

import enum
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from interactions.errors import UserError
from serving.apis import ModelServerConfig
from serving.errors import ServingError, not_found
from serving.models import LoadedModel

_LARGEST_VERSION = (1 << 63) - 1


class State(enum.IntEnum):
    """The life of a version, by TF Serving's names and numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class ModelEntry:
    """A model that is to be served: its name and the folder of its versions."""

    name: str
    base_path: Path


@dataclass(frozen=True)
class VersionState:
    """The state of one version; a load that failed is END with its error."""

    version: int
    state: State
    error: ServingError | None = None


@dataclass(frozen=True)
class Servable:
    """A model version that answers requests."""

    name: str
    version: int
    model: LoadedModel


def read_model_config(path: Path) -> tuple[ModelEntry, ...]:
    """Return the models that a text-format ModelServerConfig lists, paths as written.

    Raises UserError for a file that is missing or malformed, an empty list, a name twice, another
    platform than tensorflow, and settings that this server does not have.
    """
    config = ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); export the bundle again"
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a model server config: {_one_line(error)}") from error
    models = config.model_config_list.config
    if not models:
        raise UserError(f"{path} lists no model; add one to model_config_list")
    entries: dict[str, ModelEntry] = {}
    for model in models:
        if model.name in entries:
            raise UserError(
                f"{path}: the name {model.name!r} stands twice; give each model its own"
            )
        _check_entry(model, path=path)
        entries[model.name] = ModelEntry(name=model.name, base_path=Path(model.base_path))
    return tuple(entries.values())


def find_versions(base_path: Path) -> dict[int, Path]:
    """Return the version folders below `base_path` by number, newest first.

    Names that are not an int64 in digits are no versions. A folder that cannot be read has none.
    """
    try:
        folders = sorted(folder for folder in base_path.iterdir() if folder.is_dir())
    except OSError:
        return {}
    found: dict[int, Path] = {}
    for folder in folders:
        if re.fullmatch("[0-9]+", folder.name) and int(folder.name) <= _LARGEST_VERSION:
            found.setdefault(int(folder.name), folder)
    return dict(sorted(found.items(), reverse=True))


class ServableTable:
    """The loaded versions of every model and the states of those that ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, dict[int, VersionState]] = {}
        self._loaded: dict[str, dict[int, LoadedModel]] = {}

    def load(self, name: str, *, version: int, path: Path) -> VersionState:
        """Load and warm up one version, and return its state: AVAILABLE, or END with the error."""
        for state in (State.START, State.LOADING):
            self._set(name, VersionState(version=version, state=state))
        try:
            model = LoadedModel(path)
        except ServingError as error:
            return self._set(name, VersionState(version=version, state=State.END, error=error))
        with self._lock:
            self._loaded.setdefault(name, {})[version] = model
        return self._set(name, VersionState(version=version, state=State.AVAILABLE))

    def get(self, name: str, *, version: int | None = None) -> Servable:
        """Return a version that answers requests, the highest where none is named.

        Raises ServingError (NOT_FOUND) where there is none.
        """
        with self._lock:
            loaded = self._loaded.get(name, {})
            if version is None and not loaded:
                raise not_found(f"Servable not found for request: Latest({name})")
            if version is not None and version not in loaded:
                raise not_found(f"Servable not found for request: Specific({name}, {version})")
            found = max(loaded) if version is None else version
            return Servable(name=name, version=found, model=loaded[found])

    def states(self, name: str, *, version: int | None = None) -> tuple[VersionState, ...]:
        """Return the states of a model's versions, newest first, or of the one named.

        Raises ServingError (NOT_FOUND) for a model or version that was never to be served.
        """
        with self._lock:
            states = dict(self._states.get(name, {}))
        if version is not None:
            if version not in states:
                raise not_found(f"Could not find version {version} of model {name}")
            return (states[version],)
        if not states:
            raise not_found(f"Could not find any versions of model {name}")
        return tuple(states[number] for number in sorted(states, reverse=True))

    def close(self) -> None:
        """Unload everything; every version ends."""
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for name, models in loaded.items():
            for version, model in models.items():
                self._set(name, VersionState(version=version, state=State.UNLOADING))
                model.close()
                self._set(name, VersionState(version=version, state=State.END))

    def _set(self, name: str, state: VersionState) -> VersionState:
        with self._lock:
            self._states.setdefault(name, {})[state.version] = state
        return state


def load_newest(table: ServableTable, entry: ModelEntry) -> None:
    """Load the highest version of a model into `table`.

    Raises UserError where there is no version, or it cannot be loaded.
    """
    versions = find_versions(entry.base_path)
    if not versions:
        raise UserError(
            f"model {entry.name!r}: no version folder below {entry.base_path}; "
            "export the bundle again"
        )
    version, path = next(iter(versions.items()))
    state = table.load(entry.name, version=version, path=path)
    if state.error is not None:
        raise UserError(
            f"model {entry.name!r} version {version} at {path} cannot be loaded "
            f"({_one_line(state.error)}); export the bundle again"
        )


def _check_entry(model: Any, *, path: Path) -> None:
    if not model.name or not model.base_path:
        raise UserError(f"{path}: a model has no name or no base_path; give both")
    if model.model_platform != "tensorflow":
        raise UserError(
            f"{path}: model {model.name!r} has the platform {model.model_platform!r}; "
            'only "tensorflow" can be served'
        )
    for setting in ("model_version_policy", "version_labels"):
        given = any(field.name == setting for field, _ in model.ListFields())
        if given:
            raise UserError(
                f"{path}: model {model.name!r} sets {setting}, which the embedded server does not "
                "have: it serves the newest version; remove it, or use tensorflow_model_server"
            )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
