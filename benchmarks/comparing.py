"""The command line of a comparison: what is compared, where its results go, what it ends with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.arguments import results_folder
from interactions.errors import UserError


def compare_command(
    run: Callable[..., object], *, about: str | None, data: Sequence[str], models: Sequence[str],
    out: Path,
) -> int:  # fmt: skip
    """Read the arguments, `run` the comparison and show its table; return the exit status.

    Args:
        run: takes data sets, models, `seeds`, `out`, `quick` and `console`; writes compare.md,
            compare.json and compare.png into `out`.
        about: the help text.
        data: the data sets that are compared where none are named.
        models: the same of models.
        out: where results go where nothing else is said.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=None, help=", ".join(data))
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=results_folder, default=str(out))
    parser.add_argument(
        "--quick", action="store_true",
        help="a tiny generated data set, short trainings and the first settings of each grid",
    )  # fmt: skip
    asked = parser.parse_args()
    console = Console()
    try:
        if asked.seeds < 1:
            raise UserError(f"--seeds {asked.seeds}: give at least one")
        run(
            asked.data or (("quick",) if asked.quick else data),
            asked.models,
            seeds=asked.seeds,
            out=asked.out,
            quick=asked.quick,
            console=console,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(Markdown((asked.out / "compare.md").read_text(encoding="utf-8")))
    for name in ("compare.md", "compare.json", "compare.png"):
        console.print(f"{asked.out / name}", highlight=False)
    return 0
