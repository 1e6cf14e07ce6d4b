"""Keeps what is loaded in line with the config and the version folders."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from interactions.errors import UserError
from serving.errors import ServingError, invalid_argument, not_found
from serving.model_config import PLATFORM, ModelEntry, check_labels, model_entries
from serving.models import LoadedModel
from serving.table import ServableTable
from serving.versions import find_versions, fingerprint

_LOG = logging.getLogger(__name__)

LoadVersion = Callable[[str, int, Path], LoadedModel]
"""Loads a version by model name, number and folder; raises ServingError."""


@dataclass(frozen=True)
class RolloutSettings:
    """How versions come and go, by TF Serving's flags."""

    max_num_load_retries: int = 5
    load_retry_interval: float = 60.0
    """Seconds; a folder that has changed is tried again at once."""
    labels_for_unavailable: bool = False


@dataclass(frozen=True)
class _Failure:
    tries: int
    at: float
    files: tuple[tuple[str, int, int], ...]


class Rollout:
    """Loads new versions first and then retires the old ones (AvailabilityPreservingPolicy)."""

    def __init__(
        self,
        table: ServableTable,
        load_version: LoadVersion,
        *,
        settings: RolloutSettings = RolloutSettings(),
    ) -> None:
        self._table = table
        self._load_version = load_version
        self._settings = settings
        self._changing = threading.Lock()
        self._entries: tuple[ModelEntry, ...] = ()
        self._failures: dict[tuple[str, int], _Failure] = {}

    def reload(self, config: Any) -> None:
        """Put a ModelServerConfig in the place of the one before, and wait for its new models.

        Nothing changes where the config is refused: INVALID_ARGUMENT, a label for a version that
        does not answer FAILED_PRECONDITION, a new model without versions NOT_FOUND. Raises
        ServingError then, and UNKNOWN where a new model cannot be loaded.
        """
        with self._changing:
            entries = model_entries(config, platforms=dict.fromkeys(self._names(), PLATFORM))
            known = {(entry.name, entry.base_path) for entry in self._entries}
            new = [entry for entry in entries if (entry.name, entry.base_path) not in known]
            self._check(entries, new)
            gone = self._names() - {entry.name for entry in entries}
            self._entries = tuple(entries)
            self._table.set_labels({entry.name: entry.labels for entry in entries})
            for entry in entries:
                self._sync(entry)
            for name in gone:
                self._retire_all(name, but=())
            self._check_available(new)

    def poll(self) -> None:
        """Look at the version folders once, and load and retire what has changed."""
        with self._changing:
            for entry in self._entries:
                self._sync(entry)

    def _names(self) -> set[str]:
        return {entry.name for entry in self._entries}

    def _check(self, entries: Sequence[ModelEntry], new: Sequence[ModelEntry]) -> None:
        for entry in entries:
            check_labels(
                entry,
                available=list(self._table.loaded(entry.name)),
                before=self._table.labels.get(entry.name, {}),
                unavailable_too=self._settings.labels_for_unavailable,
            )
        # TF Serving would wait for ever for a model that is not there.
        for entry in new:
            found = find_versions(entry.base_path)
            if found is None:
                raise invalid_argument(
                    f"Could not find base path {entry.base_path} for servable {entry.name}"
                )
            if not found:
                raise not_found(
                    f"Unable to find a numerical version path for servable {entry.name} "
                    f"at: {entry.base_path}"
                )

    def _sync(self, entry: ModelEntry) -> None:
        """Bring one model in line with its folder."""
        found = find_versions(entry.base_path)
        if found is None:
            # A share may be away for a moment: what is loaded stays.
            _LOG.warning("base path %s of model %s cannot be read", entry.base_path, entry.name)
            return
        wanted = entry.policy.choose(list(found))
        for version in wanted:
            if self._table.loaded(entry.name).get(version) != found[version]:
                self._load(entry.name, version, found[version])
        if not wanted or not self._table.loaded(entry.name).keys().isdisjoint(wanted):
            self._retire_all(entry.name, but=wanted)

    def _load(self, name: str, version: int, path: Path) -> None:
        """Load a version, unless it has failed and nothing says that it would not again."""
        files = fingerprint(path)
        failure = self._failures.pop((name, version), None)
        if failure is not None and failure.files == files:
            later = failure.at + self._settings.load_retry_interval
            if failure.tries > self._settings.max_num_load_retries or time.monotonic() < later:
                self._failures[name, version] = failure
                return
        tries = failure.tries if failure is not None and failure.files == files else 0
        state = self._table.load(
            name, version=version, path=path, load=lambda: self._attempt(name, version, path)
        )
        if state.error is None:
            _LOG.info("model %s version %d is available", name, version)
            return
        _LOG.error("model %s version %d cannot be loaded: %s", name, version, state.error)
        self._failures[name, version] = _Failure(tries=tries + 1, at=time.monotonic(), files=files)

    def _attempt(self, name: str, version: int, path: Path) -> LoadedModel:
        """Load; whatever goes wrong with one version must not stop the others."""
        try:
            return self._load_version(name, version, path)
        except (ServingError, UserError):
            # the second is of a bundle that is damaged as the server starts, which it cannot
            raise
        except Exception as error:
            _LOG.exception("loading %s failed", path)
            raise ServingError(
                grpc.StatusCode.INTERNAL, f"{path}: {type(error).__name__}: {error}"
            ) from error

    def _retire_all(self, name: str, *, but: Sequence[int]) -> None:
        for version in self._table.loaded(name):
            if version not in but:
                _LOG.info("model %s version %d is retired", name, version)
                self._table.retire(name, version)

    def _check_available(self, entries: Sequence[ModelEntry]) -> None:
        """Raise ServingError where a model has no version that answers (server_core.cc)."""
        failed = [entry for entry in entries if not self._table.loaded(entry.name)]
        if not failed:
            return
        reasons = "".join(f"{{{self._reason(entry.name)}}}, " for entry in failed)
        raise ServingError(
            grpc.StatusCode.UNKNOWN,
            f"{len(failed)} model(s) did not become available: {{{reasons}}}",
        )

    def _reason(self, name: str) -> str:
        try:
            newest = self._table.states(name)[0]
        except ServingError:
            return f"{{name: {name}}} has no version that its policy serves"
        text = f"{{name: {name} version: {newest.version}}}"
        if newest.error is None:
            return text
        return f"{text} due to error: {newest.error.code.name}: {newest.error}"


class Repeating:
    """Calls `action` every `interval` seconds in a thread, until it is stopped."""

    def __init__(self, action: Callable[[], None], *, interval: float, name: str) -> None:
        self._action = action
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Call no more, and wait up to `timeout` seconds for a call that is under way."""
        self._stopped.set()
        self._thread.join(timeout)

    def _repeat(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._action()
            except Exception:
                # Whatever it was, the next look may go well.
                _LOG.exception("%s failed", self._thread.name)
