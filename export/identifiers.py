"""Ids inside a graph: strings to rows by a table, rows to strings by a variable."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.backend import tf
from interactions.errors import UserError


class Identifiers(tf.Module):
    """The ids of users or items, in the order of their rows."""

    def __init__(self, ids: np.ndarray, *, file: Path) -> None:
        """Write `ids` [n] object, str, distinct, one per line to `file`, which becomes an asset.

        Raises:
            UserError: an id is empty or holds a line end, which a vocabulary file cannot keep.
        """
        super().__init__(name=file.stem)
        for one in ids:
            if not one or "\n" in one or "\r" in one:
                raise UserError(
                    f"{file.stem} has the id {one!r}, which no vocabulary file can hold; "
                    "give ids that are not empty and have no line ends"
                )
        file.write_text("".join(f"{one}\n" for one in ids), encoding="utf-8", newline="\n")
        lines = tf.lookup.TextFileInitializer(
            str(file),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(lines, default_value=-1)
        # a variable, as constants count towards a graph's limit of 2 GB; the last one is padding
        self._ids = tf.Variable(tf.constant([*ids, ""], tf.string), trainable=False, name=file.stem)
        self.count = len(ids)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Turn ids (string, any shape) into rows (int32, the same shape), -1 for unknown ones."""
        return tf.cast(self.table.lookup(ids), tf.int32)

    def ids(self, rows: tf.Tensor) -> tf.Tensor:
        """Turn rows (int32, any shape) into ids (string), -1 into the empty string."""
        return tf.gather(self._ids, tf.where(rows < 0, self.count, rows))
