"""Say whether a new version may take the old one's traffic, by what their manifests measured.

    python deploy/gate.py OLD/manifest.json NEW/manifest.json [--metric recommender.ndcg@10 ...]

Status 0 where every metric of the new version is at least the lower end of the old one's 95 %
interval, 1 where one is worse, 2 where they cannot be compared. Higher is taken for better, so
name no error or loss.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEFAULT_METRICS = ("recommender.ndcg@10", "recommender.hit_rate@10")


def verdict(old: Mapping[str, Any], new: Mapping[str, Any], *, metric: str) -> tuple[bool, str]:
    """Return whether `metric` holds, and a line that says so; KeyError where one has none."""
    before, after = old["metrics"][metric], new["metrics"][metric]
    holds = after["value"] >= before["low"]
    return holds, (
        f"{metric}: version {old['version']} {before['value']:.4f} "
        f"[{before['low']:.4f}, {before['high']:.4f}], version {new['version']} "
        f"{after['value']:.4f}: {'holds' if holds else 'WORSE'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per metric, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--metric", action="append", help="May be repeated.")
    given = parser.parse_args(arguments)
    try:
        old, new = (json.loads(path.read_text("utf-8")) for path in (given.old, given.new))
        verdicts = [verdict(old, new, metric=metric) for metric in given.metric or DEFAULT_METRICS]
    except (OSError, ValueError) as error:
        print(f"error: {error}; give the manifest.json of two bundles", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"error: a manifest has no {error}; name a metric of both", file=sys.stderr)
        return 2
    for _, line in verdicts:
        print(line)
    return 0 if all(holds for holds, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
