"""What a bundle's manifest says of the system that was exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.config import ExportConfig
from export.manifest import (
    IndexEntry,
    Manifest,
    ParityEntry,
    RenewalEntry,
    SignatureEntry,
    TaskEntry,
    TensorEntry,
    VocabularyEntry,
    WidthsEntry,
    WindowEntry,
    vocabulary_entry,
)
from export.parity import Parity
from export.signatures import Widths
from export.system import System
from interactions.log import EventLog

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
    renewal: RenewalEntry | None = None
    """What was changed since the models were trained."""


def describe(
    system: System,
    provenance: Provenance,
    *,
    version: int,
    widths: Widths,
    config: ExportConfig,
    described: dict[str, dict[str, SignatureEntry]],
    index: IndexEntry,
    parity: Parity,
    checksums: dict[str, str],
) -> Manifest:
    """Return the manifest of a version.

    Args:
        system: what was exported.
        provenance: what only the run knows.
        version: its number.
        widths: of its answers.
        config: how it was exported.
        described: its signatures by model and name.
        index: what retrieves.
        parity: how it compares with the Python models.
        checksums: SHA-256 by path in the bundle.
    """
    return Manifest(
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=dict(provenance.config),
        schema=dict(provenance.schema),
        vocabularies=_vocabularies(system.log, provenance),
        window=_window(system.log),
        metrics=dict(provenance.metrics),
        metrics_of=provenance.metrics_of,
        renewal=provenance.renewal,
        tasks={
            name: TaskEntry(kind=task.kind, order_weight=system.order.weights[name])
            for name, task in system.tasks.items()
        },
        repeats=system.repeats,
        widths=WidthsEntry(
            max_k=widths.max_k,
            candidates=widths.candidates,
            max_batch=config.max_batch,
            request=config.request.model_dump(),
        ),
        signatures=described,
        index=index,
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


def signature_entry(function: Any) -> SignatureEntry:
    """Describe a concrete function."""
    positional, named = function.structured_input_signature
    inputs = {spec.name: spec for spec in (*positional, *named.values())}
    return SignatureEntry(
        inputs={name: _tensor_entry(spec) for name, spec in inputs.items()},
        outputs={name: _tensor_entry(s) for name, s in function.structured_outputs.items()},
    )


def _tensor_entry(spec: Any) -> TensorEntry:
    return TensorEntry(dtype=spec.dtype.name, shape=tuple(spec.shape.as_list()))
