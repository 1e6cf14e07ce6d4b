"""Writing a bundle: beside what is there, checked, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from export.config import ExportConfig
from export.description import Provenance, describe, signature_entry
from export.identifiers import Identifiers
from export.indexing import PLOT, index_entry, index_for, plot_curve
from export.manifest import (
    MANIFEST,
    Bundle,
    Manifest,
    SignatureEntry,
    sha256,
    written_version,
)
from export.parity import check_parity
from export.recommender import Recommender
from export.saved_model import save_model
from export.serving_files import write_serving_files
from export.signatures import MODELS, Widths, check_task_names, signatures
from export.system import System
from export.warmup import write_warmup
from features.backend import tf
from interactions.errors import UserError

_PARTIAL = ".partial"
_UNWRITABLE = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
)
"""How TensorFlow, which has no error class for most of these, names what the disk refuses."""


def export_bundle(
    system: System,
    *,
    folder: Path,
    config: ExportConfig,
    provenance: Provenance | None = None,
    console: Console | None = None,
) -> Bundle:
    """Write `system` as the next version of the bundle in `folder`, and return it.

    Everything is written and checked beside the bundle, then renamed into place, the manifest
    last: whatever stops an export, the version before it stays whole.

    Raises:
        UserError: more items are to be served than are ranked, a task or an id has an impossible
            name, or the folder cannot be written.
        ParityError: the exported models answer otherwise than the Python ones.
    """
    console = console or Console(quiet=True)
    widths = _widths(system, config)
    check_task_names(system)
    partial = folder / _PARTIAL
    with _writing(folder, partial):
        version = _next_version(folder)
        index = index_for(system, config=config, k=widths.candidates)
        console.print(f"index: {index.kind}; {index.reason}", highlight=False)
        system.searcher.served = index.index
        console.print(f"write the three models, version {version}")
        described = _write_models(system, partial, version, widths=widths, config=config)
        console.print("compare them with the Python models")
        parity = check_parity(
            system,
            {name: partial / name / str(version) for name in MODELS},
            widths=widths,
            tolerance=config.tolerance,
            users=config.parity_users,
            batch=config.max_batch,
        )
        manifest = describe(
            system,
            provenance or Provenance(),
            version=version,
            widths=widths,
            config=config,
            described=described,
            index=index_entry(index, recall=parity.recall, k=widths.candidates),
            parity=parity,
            checksums=_checksums(partial),
        )
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        if index.curve:
            plot_curve(manifest.index, partial / PLOT)
        _publish(partial, folder, manifest)
        _prune(folder, keep=config.keep)
    console.print(f"bundle version {version} in {folder}")
    return Bundle(folder, manifest)


@contextmanager
def _writing(folder: Path, partial: Path) -> Iterator[None]:
    """Give an empty `partial` folder that is gone afterwards; explain what cannot be written."""
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        if not _is_of_the_disk(error, reason):
            raise
        raise UserError(
            f"the bundle {folder} cannot be written ({reason}); choose a folder with rights and "
            "room; a version that was there before is unharmed"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_of_the_disk(error: Exception, reason: str) -> bool:
    """Say whether a file could not be written; other errors of TensorFlow are ours."""
    if isinstance(error, (OSError, tf.errors.PermissionDeniedError)):
        return True
    return any(refusal in reason for refusal in _UNWRITABLE)


def _widths(system: System, config: ExportConfig) -> Widths:
    if config.max_k > system.candidates:
        raise UserError(
            f"export.max_k is {config.max_k}, but only ranking.candidates = {system.candidates} "
            "items are ranked; lower the first or raise the second"
        )
    return Widths(max_k=config.max_k, candidates=system.candidates, request=config.request)


def _write_models(
    system: System, partial: Path, version: int, *, widths: Widths, config: ExportConfig
) -> dict[str, dict[str, SignatureEntry]]:
    """Write each model with its warm-up requests; return its signatures by name."""
    vocabularies = partial / "vocabularies"
    vocabularies.mkdir()
    users = Identifiers(system.log.user_ids, file=vocabularies / "user_ids.txt")
    items = Identifiers(system.log.item_ids, file=vocabularies / "item_ids.txt")
    recommender = Recommender(system, users=users, items=items, index=system.searcher.served)
    described = {}
    for name, calls in signatures(recommender, widths=widths).items():
        folder = partial / name / str(version)
        save_model(folder, calls, tables=recommender.tables)
        write_warmup(folder, name, system=system, widths=widths, max_batch=config.max_batch)
        described[name] = {
            signature: signature_entry(call.get_concrete_function())
            for signature, call in calls.items()
        }
    shutil.rmtree(vocabularies)
    return described


def _checksums(partial: Path) -> dict[str, str]:
    files = sorted(
        file for name in MODELS for file in (partial / name).rglob("*") if file.is_file()
    )
    return {file.relative_to(partial).as_posix(): sha256(file) for file in files}


def _next_version(folder: Path) -> int:
    """One more than any version that is there, or was published and has been taken away since."""
    return max([written_version(folder), *versions_in(folder)]) + 1


def versions_in(folder: Path) -> list[int]:
    """Return the numbers of all versions in a bundle's folder, ascending."""
    return sorted({number for name in MODELS for number in _versions(folder / name)})


def _versions(base: Path) -> list[int]:
    """Return the version numbers below a model's folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(f.name) for f in base.iterdir() if f.is_dir() and f.name.isdecimal())


def _publish(partial: Path, folder: Path, manifest: Manifest) -> None:
    """Rename the finished version into place, the manifest last."""
    _sync(partial)
    for name in MODELS:
        (folder / name).mkdir(exist_ok=True)
        version = Path(name) / str(manifest.version)
        (partial / version).rename(folder / version)
    stock = manifest.index.is_exact
    write_serving_files(folder, max_batch=manifest.widths.max_batch, stock=stock)
    if (partial / PLOT).exists():
        (partial / PLOT).replace(folder / PLOT)
    (partial / MANIFEST).replace(folder / MANIFEST)
    _sync_one(folder)


def _sync(folder: Path) -> None:
    """Have the disk keep what was written, before names point to it: the power may fail too."""
    for entry in sorted(folder.rglob("*")):
        _sync_one(entry)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(folder: Path, *, keep: int) -> None:
    """Remove all but the newest `keep` versions of each model."""
    for name in MODELS:
        for number in _versions(folder / name)[:-keep]:
            shutil.rmtree(folder / name / str(number))
