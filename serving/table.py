"""The loaded versions of every model, who uses them, and the states of all that ever were."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.errors import ServingError, invalid_argument, not_found
from serving.models import LoadedModel
from serving.versions import State, VersionState


class _Place:
    """A loaded version in the table; all but `model` and `path` change under the table's lock."""

    def __init__(self, model: LoadedModel, path: Path) -> None:
        self.model = model
        self.path = path
        self.users = 0
        self.retired = False
        self.unused = threading.Event()


class ServableTable:
    """Gives requests their model; a version that is retired goes when its last request is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, dict[int, VersionState]] = {}
        self._places: dict[str, dict[int, _Place]] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._retiring: list[threading.Thread] = []

    def load(
        self, name: str, *, version: int, path: Path, load: Callable[[], LoadedModel]
    ) -> VersionState:
        """Put what `load` returns into the table, and return its state.

        That is AVAILABLE, or END with the ServingError that `load` raised. A version that is there
        already answers until the new one does.
        """
        for state in (State.START, State.LOADING):
            self._set(name, VersionState(version=version, state=state))
        try:
            model = load()
        except ServingError as error:
            return self._set(name, VersionState(version=version, state=State.END, error=error))
        with self._lock:
            models = self._places.setdefault(name, {})
            before = models.get(version)
            models[version] = _Place(model, path)
        state = self._set(name, VersionState(version=version, state=State.AVAILABLE))
        if before is not None:
            self._retire(before, then=lambda: None)
        return state

    @contextmanager
    def use(self, spec: Any) -> Iterator[LoadedModel]:
        """Give the model that a ModelSpec asks for; it stays loaded inside the `with` block.

        Raises ServingError: INVALID_ARGUMENT for a spec without a name or with an unknown label,
        NOT_FOUND for a model or version that is not loaded.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        with self._lock:
            place = self._find(spec)
            place.users += 1
        try:
            yield place.model
        finally:
            with self._lock:
                place.users -= 1
                if place.retired and not place.users:
                    place.unused.set()

    def loaded(self, name: str) -> dict[int, Path]:
        """Return the folders of the versions that answer, by number."""
        with self._lock:
            return {version: place.path for version, place in self._places.get(name, {}).items()}

    def label_version(self, spec: Any) -> int:
        """Return the version that a ModelSpec's label stands for; raises ServingError."""
        version = self._labels.get(spec.name, {}).get(spec.version_label)
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        return version

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Versions by model and label."""
        return self._labels

    def set_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """Replace all labels."""
        self._labels = labels

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

    def retire(self, name: str, version: int) -> None:
        """Take a version from new requests at once; it is freed when those under way are over."""
        unloading = VersionState(version=version, state=State.UNLOADING)
        with self._lock:
            place = self._places[name].pop(version)
            self._states[name][version] = unloading

        def end() -> None:
            with self._lock:
                # The version may have come back meanwhile.
                if self._states[name][version] is unloading:
                    self._states[name][version] = VersionState(version=version, state=State.END)

        self._retire(place, then=end)

    def close(self, timeout: float = 10.0) -> None:
        """Retire everything; waits up to `timeout` seconds for requests that are under way."""
        until = time.monotonic() + timeout
        for name in list(self._places):
            for version in self.loaded(name):
                self.retire(name, version)
        for thread in self._retiring:
            thread.join(max(until - time.monotonic(), 0.0))

    def _retire(self, place: _Place, *, then: Callable[[], None]) -> None:
        """Free a place that is not in the table any more, in a thread, when nobody uses it."""

        def free() -> None:
            place.unused.wait()
            place.model.close()
            # The graph's Python objects refer to one another, and to the session's memory.
            gc.collect()
            then()

        with self._lock:
            place.retired = True
            if not place.users:
                place.unused.set()
        thread = threading.Thread(target=free, name="retire", daemon=True)
        self._retiring = [other for other in self._retiring if other.is_alive()] + [thread]
        thread.start()

    def _find(self, spec: Any) -> _Place:
        models = self._places.get(spec.name, {})
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            if not models:
                raise not_found(f"Servable not found for request: Latest({spec.name})")
            return models[max(models)]
        version = spec.version.value if choice == "version" else self.label_version(spec)
        if version not in models:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {version})")
        return models[version]

    def _set(self, name: str, state: VersionState) -> VersionState:
        with self._lock:
            self._states.setdefault(name, {})[state.version] = state
        return state
