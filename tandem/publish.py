"""`tandem export`: from a finished run to a bundle."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from evaluation.report import Metrics
from export.bundle import Provenance, export_bundle
from export.manifest import Bundle
from export.system import System
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION
from tandem.fit import config_of, load_run, shipped_folder
from tandem.system import Trained

BUNDLE = "bundle"
"""Folder of a run."""


def publish(run: Path, *, console: Console) -> Bundle:
    """Write the models of a finished run as the next version of its bundle."""
    trained = load_run(run, console=console)
    return publish_system(
        trained, run=run, metrics=Metrics.read(run / "metrics.json"), console=console
    )


def publish_system(trained: Trained, *, run: Path, metrics: Metrics, console: Console) -> Bundle:
    """Write a trained system, as it is to answer from now on, as the next version of the bundle."""
    config = config_of(run)
    shipped = shipped_folder(run, config)
    return export_bundle(
        system_now(trained),
        folder=run / BUNDLE,
        config=config.export,
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
    )
