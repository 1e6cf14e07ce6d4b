"""Writing a bundle: beside what is there, checked, then renamed into place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from export.config import ExportConfig
from export.identifiers import Identifiers
from export.manifest import (
    MANIFEST,
    Bundle,
    IndexEntry,
    Manifest,
    ParityEntry,
    SignatureEntry,
    TaskEntry,
    TensorEntry,
    VocabularyEntry,
    WidthsEntry,
    WindowEntry,
    sha256,
    vocabulary_entry,
)
from export.parity import Parity, check_parity
from export.recommender import Recommender
from export.saved_model import save_model
from export.serving_files import write_serving_files
from export.signatures import MODELS, Widths, check_task_names, signatures
from export.system import System
from export.warmup import write_warmup
from features.backend import tf
from interactions.errors import UserError
from interactions.log import EventLog

_PARTIAL = ".partial"
_PACKAGES = ("tandem", "tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")


@dataclass(frozen=True)
class Provenance:
    """What only the run knows of the models that are exported."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """The run's config, fully expanded, as plain values."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Features by entity, as plain values."""
    vocabularies: Mapping[str, Path] = field(default_factory=dict)
    """Vocabulary files by name; their hashes go into the manifest, with those of the ids."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The content of `metrics.json`."""
    metrics_of: Literal["these models", "the models before the refit"] = "these models"


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
        manifest = _manifest(
            system,
            provenance or Provenance(),
            version=version,
            widths=widths,
            config=config,
            described=described,
            parity=parity,
            checksums=_checksums(partial),
        )
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        _publish(partial, folder, version=version, max_batch=config.max_batch)
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
    except (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the bundle {folder} cannot be written ({reason}); choose a folder with rights and "
            "room; a version that was there before is unharmed"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _widths(system: System, config: ExportConfig) -> Widths:
    if config.max_k > system.candidates:
        raise UserError(
            f"export.max_k is {config.max_k}, but only ranking.candidates = {system.candidates} "
            "items are ranked; lower the first or raise the second"
        )
    return Widths(max_k=config.max_k, candidates=system.candidates)


def _write_models(
    system: System, partial: Path, version: int, *, widths: Widths, config: ExportConfig
) -> dict[str, dict[str, SignatureEntry]]:
    """Write each model with its warm-up requests; return its signatures by name."""
    vocabularies = partial / "vocabularies"
    vocabularies.mkdir()
    users = Identifiers(system.log.user_ids, file=vocabularies / "user_ids.txt")
    items = Identifiers(system.log.item_ids, file=vocabularies / "item_ids.txt")
    recommender = Recommender(system, users=users, items=items)
    described = {}
    for name, calls in signatures(recommender, widths=widths).items():
        folder = partial / name / str(version)
        save_model(folder, calls, tables=[users.table, items.table])
        write_warmup(folder, name, system=system, widths=widths, max_batch=config.max_batch)
        described[name] = {
            signature: _signature_entry(call.get_concrete_function())
            for signature, call in calls.items()
        }
    shutil.rmtree(vocabularies)
    return described


def _signature_entry(function: Any) -> SignatureEntry:
    positional, named = function.structured_input_signature
    inputs = {spec.name: spec for spec in (*positional, *named.values())}
    return SignatureEntry(
        inputs={name: _tensor_entry(spec) for name, spec in inputs.items()},
        outputs={name: _tensor_entry(s) for name, s in function.structured_outputs.items()},
    )


def _tensor_entry(spec: Any) -> TensorEntry:
    return TensorEntry(dtype=spec.dtype.name, shape=tuple(spec.shape.as_list()))


def _checksums(partial: Path) -> dict[str, str]:
    files = sorted(
        file for name in MODELS for file in (partial / name).rglob("*") if file.is_file()
    )
    return {file.relative_to(partial).as_posix(): sha256(file) for file in files}


def _manifest(
    system: System,
    provenance: Provenance,
    *,
    version: int,
    widths: Widths,
    config: ExportConfig,
    described: dict[str, dict[str, SignatureEntry]],
    parity: Parity,
    checksums: dict[str, str],
) -> Manifest:
    index = system.searcher.index
    return Manifest(
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=dict(provenance.config),
        schema=dict(provenance.schema),
        vocabularies=_vocabularies(system.log, provenance),
        window=_window(system.log),
        metrics=dict(provenance.metrics),
        metrics_of=provenance.metrics_of,
        tasks={
            name: TaskEntry(kind=task.kind, order_weight=system.order.weights[name])
            for name, task in system.tasks.items()
        },
        repeats=system.repeats,
        widths=WidthsEntry(
            max_k=widths.max_k, candidates=widths.candidates, max_batch=config.max_batch
        ),
        signatures=described,
        index=IndexEntry(
            kind="exact", is_exact=index.is_exact(), recall=parity.recall, k=widths.candidates
        ),
        parity=ParityEntry(
            largest_difference=dict(parity.largest_difference),
            tolerance=config.tolerance,
            users=parity.users,
        ),
        packages={name: version_of(name) for name in _PACKAGES},
        checksums=checksums,
    )


def _vocabularies(log: EventLog, provenance: Provenance) -> dict[str, VocabularyEntry]:
    entries = {
        "user_ids": vocabulary_entry(log.user_ids),
        "item_ids": vocabulary_entry(log.item_ids),
    }
    for name, file in provenance.vocabularies.items():
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        entries[name] = vocabulary_entry(line.partition("\t")[0] for line in lines)
    return entries


def _window(log: EventLog) -> WindowEntry:
    dated = log.has_times and len(log) > 0
    return WindowEntry(
        events=len(log),
        users=len(log.user_ids),
        items=len(log.item_ids),
        first=_iso(log.time.min()) if dated else None,
        last=_iso(log.time.max()) if dated else None,
    )


def _iso(microseconds: int) -> str:
    return f"{np.datetime64(int(microseconds), 'us')}Z"


def _next_version(folder: Path) -> int:
    return max((number for name in MODELS for number in _versions(folder / name)), default=0) + 1


def _versions(base: Path) -> list[int]:
    """Return the version numbers below a model's folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(f.name) for f in base.iterdir() if f.is_dir() and f.name.isdecimal())


def _publish(partial: Path, folder: Path, *, version: int, max_batch: int) -> None:
    """Rename the finished version into place, the manifest last."""
    for name in MODELS:
        (folder / name).mkdir(exist_ok=True)
        (partial / name / str(version)).rename(folder / name / str(version))
    write_serving_files(folder, max_batch=max_batch)
    (partial / MANIFEST).replace(folder / MANIFEST)


def _prune(folder: Path, *, keep: int) -> None:
    """Remove all but the newest `keep` versions of each model."""
    for name in MODELS:
        for number in _versions(folder / name)[:-keep]:
            shutil.rmtree(folder / name / str(number))
