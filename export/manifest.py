"""What a bundle says of itself: `manifest.json`, and opening a bundle by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interactions.errors import UserError

FORMAT = 2
"""Number of the layout; a reader refuses bundles of a later one."""
MANIFEST, SCHEMA = "manifest.json", Path(__file__).parent / "manifest.schema.json"
"""The file in a bundle, and the JSON schema that it keeps to."""
_BLOCK = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TensorEntry(_Part):
    """An input or output of a signature."""

    dtype: str
    shape: tuple[int | None, ...]
    """None for a dimension of any size."""


class SignatureEntry(_Part):
    """The inputs and outputs of a signature, by name."""

    inputs: dict[str, TensorEntry]
    outputs: dict[str, TensorEntry]


class WidthsEntry(_Part):
    """The widths and sizes fixed at export."""

    max_k: int
    """Of the recommender's lists."""
    candidates: int
    """Of the retrieval model's lists, and how many the recommender ranks."""
    max_batch: int
    """Largest batch that was warmed up."""
    request: dict[str, int] = Field(default_factory=dict)
    """Of the lists that a request to `recommend` brings."""


class TaskEntry(_Part):
    """A task of the ranker."""

    kind: str
    order_weight: float
    """Its weight in `score`."""


class WindowEntry(_Part):
    """The interactions that the tables of the bundle know."""

    events: int
    users: int
    items: int
    first: str | None
    """ISO time (UTC) of the first event; None where the data has only an order."""
    last: str | None


class VocabularyEntry(_Part):
    """A vocabulary: which values have a number."""

    values: int
    sha256: str


class ScannEntry(_Part):
    """ScaNN with some settings, measured on users' queries when it was exported."""

    leaves: int = Field(ge=1)
    """Partitions of the catalogue."""
    searched: int = Field(ge=1)
    """Partitions that a query looks into."""
    reordered: int = Field(ge=1)
    """Best items by quantised score whose true score is computed."""
    recall: float = Field(ge=0, le=1)
    milliseconds: float = Field(ge=0)
    """Median time of one query."""


class IndexEntry(_Part):
    """What answers top-k."""

    kind: Literal["exact", "scann"]
    is_exact: bool
    recall: float = Field(ge=0, le=1)
    """Share of the true top `k` that it found, measured at export."""
    k: int = Field(ge=1)
    reason: str = ""
    """Why this one."""
    exact_milliseconds: float | None = None
    """Median time of one query of the exact index, where ScaNN was tried."""
    scann: ScannEntry | None = None
    """The settings that were chosen."""
    curve: tuple[ScannEntry, ...] = ()
    """All settings that were measured, fastest first."""


class RenewalEntry(_Part):
    """What an export changed of what the models were trained on."""

    items_offered: int = Field(ge=0)
    """Items that can be recommended."""
    items_new: int = Field(ge=0)
    """Ids that no model has seen: known by their content alone."""
    items_changed: int = Field(ge=0)
    """Known ids with another feature than in training."""
    items_withdrawn: int = Field(ge=0)
    """Known ids that are no longer offered; they stay in histories."""
    events_new: int = Field(ge=0)
    users_new: int = Field(ge=0)
    users_forgotten: int = Field(ge=0)


class ParityEntry(_Part):
    """How the exported models compare with the Python ones."""

    largest_difference: dict[str, float]
    """By model; absolute below 1, relative above."""
    tolerance: float
    users: int


class Manifest(_Part):
    """Everything that a bundle says of itself."""

    format: int = Field(default=FORMAT, ge=1)
    version: int = Field(ge=1)
    """Folder name of each model's version that this manifest describes."""
    created: str
    """ISO time, UTC."""
    config: dict[str, Any]
    """The run's config, fully expanded."""
    schema_: dict[str, Any] = Field(alias="schema")
    """Features by entity."""
    vocabularies: dict[str, VocabularyEntry]
    window: WindowEntry
    metrics: dict[str, Any]
    metrics_of: Literal["these models", "the models before the refit"]
    renewal: RenewalEntry | None = None
    """None where catalogue, histories and users are those of the run."""
    tasks: dict[str, TaskEntry]
    repeats: bool
    """Whether items that a user has chosen before may come again."""
    widths: WidthsEntry
    signatures: dict[str, dict[str, SignatureEntry]]
    """By model and signature."""
    index: IndexEntry
    parity: ParityEntry
    packages: dict[str, str]
    """Versions that the bundle was made with."""
    checksums: dict[str, str]
    """SHA-256 of every file of the models, by path in the bundle. The four config files may be
    changed by an operator and are left out."""

    def to_json(self) -> str:
        """Return the content of `manifest.json`."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def json_schema(cls) -> str:
        """Return the content of `manifest.schema.json`: what `read_bundle` checks, for others."""
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        return json.dumps(schema | cls.model_json_schema(by_alias=True), indent=2) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, as its manifest describes it."""

    folder: Path
    manifest: Manifest

    def model(self, name: str) -> Path:
        """Return the folder of a model's version that the manifest describes."""
        return self.folder / name / str(self.manifest.version)


def written_version(folder: Path) -> int:
    """Return the version that the manifest in `folder` describes, 0 where none can be read."""
    try:
        return int(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def read_bundle(folder: Path) -> Bundle:
    """Open a bundle and check every file of its models against its checksum.

    Raises:
        UserError: as `open_bundle` and `check_files` do.
    """
    bundle = open_bundle(folder)
    check_files(bundle)
    return bundle


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle without a look at its models.

    Raises:
        UserError: the folder is no bundle, or a newer version of Tandem wrote it.
    """
    folder = Path(folder)
    return Bundle(folder, _read_manifest(folder / MANIFEST))


def check_files(bundle: Bundle, *, models: Collection[str] | None = None) -> None:
    """Check the files of some models of a bundle, or of all, against their checksums.

    Raises:
        UserError: a file is missing or changed; names it.
    """
    folder = bundle.folder
    listed = {
        name: checksum
        for name, checksum in bundle.manifest.checksums.items()
        if models is None or name.split("/")[0] in models
    }
    with ThreadPoolExecutor() as pool:
        # several files at a time: hashing goes on outside Python's lock
        found_by_name = {name: pool.submit(sha256, folder / name) for name in listed}
    for name, expected in listed.items():
        try:
            found = found_by_name[name].result()
        except OSError as error:
            raise UserError(
                f"{folder / name} cannot be read ({error.strerror}), but the bundle's manifest "
                "lists it; export the bundle again, or copy it anew"
            ) from error
        if found != expected:
            raise UserError(
                f"{folder / name} is damaged: its SHA-256 begins {found[:12]}, the manifest says "
                f"{expected[:12]}; export the bundle again, or copy it anew"
            )


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def vocabulary_entry(values: Iterable[str]) -> VocabularyEntry:
    """Count and hash values in the order of their numbers."""
    digest, count = hashlib.sha256(), 0
    for value in values:
        digest.update(f"{value}\n".encode())
        count += 1
    return VocabularyEntry(values=count, sha256=digest.hexdigest())


def _read_manifest(file: Path) -> Manifest:
    if not file.is_file():
        raise UserError(
            f"not a bundle: {file.parent} has no {MANIFEST}; make one with tandem export"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        written = content["format"]
        if not isinstance(written, int):
            raise TypeError(f"format {written!r} is no number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is broken ({reason}); export the bundle again") from error
    if written > FORMAT:
        raise UserError(
            f"{file} has the format {written}, this Tandem reads up to {FORMAT}; "
            "update Tandem, or export the bundle again with this one"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{file} is broken ({place}: {first['msg']}); export the bundle again"
        ) from error
