"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def results_folder(name: str) -> Path:
    """Return the folder `name`, made where it is not there: hours later would be late to refuse it.

    Raises:
        argparse.ArgumentTypeError: it cannot be written to.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{name} cannot be written to ({error.strerror}); name a folder you may write to"
        ) from error
