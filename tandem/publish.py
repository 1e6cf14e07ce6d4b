"""`tandem export`: from a finished run to a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evaluation.report import Metrics
from export.bundle import export_bundle, versions_in
from export.description import Provenance
from export.manifest import Bundle, RenewalEntry
from export.system import RequestEncoders, System
from features.entities import EntityEncoders
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION
from tandem.fit import config_of, shipped_data, shipped_folder
from tandem.forgotten import Forgotten, read_users, remember
from tandem.renewal import Changes, Renewed, renew
from tandem.system import Trained, load_system

BUNDLE = "bundle"
"""Folder of a run."""


@dataclass(frozen=True)
class ExportOptions:
    """What an export is to do otherwise than the run's config says."""

    items: Path | None = None
    """The whole catalogue as it is now."""
    events: Path | None = None
    """Events after those of the run."""
    forget_users: Path | None = None
    """Who must be in no table, in this export and all later ones."""
    keep: int | None = None
    """Versions that stay in the bundle."""


def publish(run: Path, *, options: ExportOptions = ExportOptions(), console: Console) -> Bundle:
    """Write the models of a finished run as the next version of its bundle.

    Nothing is trained: with another catalogue, later events or forgotten users, the models stay,
    and the tables and the index are made again.

    Raises:
        UserError: the run is not finished, or one of the files cannot be used.
        ParityError: the exported models answer otherwise than the Python ones.
    """
    config = config_of(run)
    data = shipped_data(run, console=console)
    if options.forget_users is not None:
        users = read_users(options.forget_users)
        remember(run, users)
        known = Forgotten.of(run).among(data.log.user_ids).sum()
        console.print(f"forget {len(users):,} users; the run knows {known:,} of all forgotten ones")
    forgotten = Forgotten.of(run)
    changes = Changes(options.items, options.events, forgotten)
    folder = shipped_folder(run, config)
    metrics = Metrics.read(run / "metrics.json")
    if changes == Changes():
        trained, entry = load_system(data, folder=folder), None
    else:
        renewed = renew(data, changes)
        _tell(renewed, console=console)
        trained = load_system(renewed.data, folder=folder, trained_on=data, offered=renewed.offered)
        entry = renewed.entry
    bundle = publish_system(
        trained, run=run, metrics=metrics, renewal=entry, keep=options.keep, console=console
    )
    if options.forget_users is not None:
        _tell_who_has_them(bundle, console=console)
    return bundle


def _tell(renewed: Renewed, *, console: Console) -> None:
    """Say what is otherwise than in the run."""
    for note in renewed.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    entry = renewed.entry
    console.print(
        f"  {entry.items_offered:,} items offered: {entry.items_new:,} new, "
        f"{entry.items_changed:,} changed; {entry.items_withdrawn:,} withdrawn"
    )
    console.print(
        f"  {entry.events_new:,} new events, {entry.users_new:,} new users; "
        f"{entry.users_forgotten:,} users forgotten"
    )
    if entry.items_withdrawn > entry.items_offered:
        console.print("  warning: --items is the whole catalogue; most known items are not in it")


def _tell_who_has_them(bundle: Bundle, *, console: Console) -> None:
    """Say which versions still hold users who are to be forgotten."""
    older = [n for n in versions_in(bundle.folder) if n < bundle.manifest.version]
    if older:
        console.print(
            f"  versions {', '.join(map(str, older))} were made before and still hold forgotten "
            "users; --keep 1 removes them"
        )


def publish_system(
    trained: Trained,
    *,
    run: Path,
    metrics: Metrics,
    renewal: RenewalEntry | None = None,
    keep: int | None = None,
    console: Console,
) -> Bundle:
    """Write a trained system, as it is to answer from now on, as the next version of the bundle.

    `renewal` says what was changed since it was trained; `keep` stands for the config's.
    """
    config = config_of(run)
    shipped = shipped_folder(run, config)
    return export_bundle(
        system_now(trained),
        folder=run / BUNDLE,
        config=config.export if keep is None else config.export.model_copy(update={"keep": keep}),
        provenance=Provenance(
            config=config.model_dump(mode="json"),
            schema={
                entity: [feature.model_dump(mode="json") for feature in features]
                for entity, features in (
                    ("user", config.data.user_features),
                    ("item", config.data.item_features),
                    ("event", config.data.event_features),
                )
            },
            vocabularies={
                str(file.relative_to(shipped)): file
                for file in sorted(shipped.glob("features/**/*.tsv"))
            },
            metrics=metrics.to_dict(),
            metrics_of="these models" if config.refit == "none" else "the models before the refit",
            renewal=renewal,
        ),
        console=console,
    )


def system_now(trained: Trained) -> System:
    """Return the system with histories and statistics up to the end of the log.

    The models stay as they were trained; what they gather, who chose what and how often, is what
    is known by now.
    """
    data = trained.data
    trained.ranker.past.replace(data.past(RETRIEVAL, RANKING, VALIDATION, TEST))
    return System(
        log=data.log,
        searcher=trained.searcher,
        scorer=trained.scorer,
        order=trained.order,
        candidates=data.config.ranking.candidates,
        repeats=data.repeats,
        filterable=tuple(one for one in data.config.data.item_features if one.filterable),
        context_encoders=_request_encoders(
            trained.retriever_inputs.context_encoders, trained.ranker_inputs.context_encoders
        ),
        user_encoders=_request_encoders(
            trained.retriever_inputs.user_encoders, trained.ranker_inputs.user_encoders
        ),
    )


def _request_encoders(
    retriever: EntityEncoders | None, ranker: EntityEncoders | None
) -> RequestEncoders | None:
    if retriever is None or ranker is None:
        return None
    return RequestEncoders(retriever, ranker)
