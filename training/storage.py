"""Checkpoints and small records on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.backend import tf
from interactions.errors import UserError


class Keeper:
    """Saves and restores the latest generations of weights in a folder, each named by its step."""

    def __init__(self, folder: Path, weights: Mapping[str, Any], *, keep: int = 1) -> None:
        self._folder = folder
        self._checkpoint = tf.train.Checkpoint(**weights)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=keep)

    def save(self, step: int) -> None:
        """Save the weights as those of `step`; the oldest generation too many goes."""
        self._manager.save(checkpoint_number=step)

    def restore(self, step: int | None = None) -> None:
        """Restore the weights of `step`, or the latest ones.

        Raises:
            UserError: there are none, or they cannot be read, or are of another model.
        """
        path = self._manager.latest_checkpoint
        if step is not None:
            path = str(self._folder / f"ckpt-{step}")
        if path is None or not Path(f"{path}.index").exists():
            raise UserError(
                f"no checkpoint in {self._folder}; remove {self._folder.parent} to train it anew"
            )
        try:
            found = self._checkpoint.restore(path)
            found.assert_existing_objects_matched().expect_partial()
        # TensorFlow tells of a file that ends too early by an IndexError
        except (
            tf.errors.OpError,
            IndexError,
            ValueError,
            RuntimeError,
            AssertionError,
        ) as error:
            raise UserError(
                f"the checkpoint {path} cannot be read ({str(error).splitlines()[0]}); "
                f"remove {self._folder.parent} to train it anew"
            ) from error


def write_json(path: Path, content: object) -> None:
    """Write `content` so that `path` holds either the old or the whole new one."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(path)
