"""Where a server's models.config comes from: a bundle, a file, or the flags for one model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import MANIFEST, check_files, open_bundle
from interactions.errors import UserError
from serving.errors import ServingError, failed_precondition
from serving.model_config import in_folder, read_model_config, single_model
from serving.options import ServerOptions

_CONFIG = "models.config"


@dataclass(frozen=True)
class ConfigSource:
    """A ModelServerConfig that may be read again."""

    read: Callable[[], Any]
    """Raises UserError for a file that is missing or malformed."""
    path: Path
    """What an error names."""
    remedy: str

    def refusal(self, error: ServingError) -> UserError:
        """Return the error of a server that cannot start with this config."""
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 500 else f"{reason[:500]}..."
        return UserError(f"{self.path} cannot be served ({reason}); {self.remedy}")


class BundleCheck:
    """Checks the files of the models that a bundle serves against its manifest.

    As a server starts they are read while TensorFlow loads them, which leaves processors free;
    later, before that.
    """

    def __init__(self, folder: Path, *, models: Collection[str]) -> None:
        """Begin to check `models`; raises UserError for a folder that is no bundle."""
        self._folder = folder
        self._lock = threading.Lock()
        self._written = self._time_written()
        self._checked = set(models)
        bundle = open_bundle(folder)
        pool = ThreadPoolExecutor(1, thread_name_prefix="checksums")
        self._first = pool.submit(check_files, bundle, models=frozenset(models))
        pool.shutdown(wait=False)

    def finish(self) -> None:
        """Wait for the check that began at the start; raises UserError for a damaged bundle."""
        self._first.result()

    def check(self, model: str) -> None:
        """Check a model that was not, and all again where the manifest has changed.

        Raises ServingError for a damaged bundle.
        """
        with self._lock:
            written = self._time_written()
            if written == self._written and model in self._checked:
                return
            models = {model} if written == self._written else self._checked | {model}
            try:
                check_files(open_bundle(self._folder), models=models)
            except UserError as error:
                raise failed_precondition(str(error)) from error
            self._written = written
            self._checked |= models

    def _time_written(self) -> int:
        try:
            return (self._folder / MANIFEST).stat().st_mtime_ns
        except OSError:
            return 0


def config_source(options: ServerOptions) -> ConfigSource:
    """Return the source that the options name; raises UserError for a folder that is no bundle."""
    if options.bundle is not None:
        open_bundle(options.bundle)
        # Paths in a models.config are absolute.
        folder = options.bundle.absolute()
        remedy = "export the bundle again"
        return ConfigSource(
            read=lambda: in_folder(read_model_config(folder / _CONFIG, remedy=remedy), folder),
            path=options.bundle,
            remedy=remedy,
        )
    if options.model_config_file is not None:
        path = options.model_config_file
        return ConfigSource(
            read=lambda: read_model_config(path), path=path, remedy="mend it, or the model"
        )
    if options.model_base_path is None:
        raise UserError("nothing to serve; give a bundle, a model_config_file or a model_base_path")
    base_path = options.model_base_path.absolute()
    config = single_model(options.model_name, base_path)
    return ConfigSource(
        read=lambda: config, path=base_path, remedy="give a folder with a version folder in it"
    )
