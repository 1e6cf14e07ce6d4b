"""The data sets of the comparison, by name, as configs of the project."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from rich.console import Console

from benchmarks.retrieval.problem import Problem
from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.marketplace import PRESETS, MarketplaceConfig, generate
from tandem.config import TandemConfig, load_config, parse_config
from tandem.data import read_data

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "ml-latest-small": "movielens-latest-small",
    "ml-latest-small-last-five": "movielens-latest-small",
    "amazon-electronics": "amazon-electronics",
    "complete-journey": "completejourney",
}
"""By data set: the file of `configs/` that describes it."""
SPLITS = {"ml-latest-small-last-five": SplitConfig(kind="leave_last_out", test_events=5)}
"""Splits other than the config's own."""
QUICK = MarketplaceConfig(users=120, items=240, events=6_000, days=60, categories=6, segments=16)
MARKETPLACES = {"marketplace": PRESETS["demo"], "quick": QUICK}
NAMES = (*FILES, "marketplace")
"""What is compared where nothing else is asked for."""
ABOUT = {
    "ml-latest-small": "MovieLens latest-small, leave last out",
    "ml-latest-small-last-five": "MovieLens latest-small, last five events of each user",
    "amazon-electronics": "Amazon Electronics, split by time",
    "complete-journey": "Complete Journey, split by time, repeats kept",
    "marketplace": "generated marketplace, split by time",
    "quick": "a tiny generated marketplace, only to see that everything runs",
}


def prepare(name: str, folder: Path, *, console: Console) -> Problem:
    """Read, clean and split a data set into `folder`, or find it there.

    Raises `UserError` for an unknown name and where the data is not there.
    """
    if not (folder / "config.yaml").exists():
        config = _config(name, folder)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".config.yaml.{os.getpid()}"
        # only what was said: the defaults are those of the code that runs
        said = config.model_dump(mode="json", exclude_unset=True)
        partial.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
        partial.replace(folder / "config.yaml")
    return find(folder, console=console)


def find(folder: Path, *, console: Console) -> Problem:
    """Return the problem that `prepare` left in `folder`."""
    return Problem(read_data(load_config(folder / "config.yaml"), run=folder, console=console))


def _config(name: str, folder: Path) -> TandemConfig:
    if name in MARKETPLACES:
        market = generate(MARKETPLACES[name])
        market.write(folder / "marketplace")
        content = {"data": market.data_config(), "tasks": market.tasks_config()}
        if name == "quick":
            content["retrieval"] = {"schedule": {"max_epochs": 2}}
        return parse_config(content, base=(folder / "marketplace").resolve())
    if name not in FILES:
        raise UserError(f"data set {name!r} is unknown; there are {', '.join(ABOUT)}")
    config = load_config(ROOT / "configs" / f"{FILES[name]}.yaml")
    split = SPLITS.get(name, config.split)
    return config.model_copy(update={"split": split})
