"""Vocabularies: strings to integers, the same in training and in the served graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from features.backend import tf
from interactions.errors import UserError


@dataclass(frozen=True)
class Vocabulary:
    """The known values of a column, most frequent first.

    An encoded value is 0 where the string is empty (missing, or padding), 1 to `len(tokens)` for a
    known value, and one of `oov_buckets` further numbers, chosen by hash, for any other.
    """

    tokens: tuple[str, ...]
    counts: tuple[int, ...]
    """How often each token stood in the training rows."""
    oov_buckets: int

    @classmethod
    def of(cls, values: np.ndarray, *, min_count: int, oov_buckets: int) -> Vocabulary:
        """Count `values` ([n] object, str; empty ones are no value) and keep the frequent ones."""
        tokens, counts = np.unique(values.astype(str), return_counts=True)
        return cls.counted(tokens, counts, min_count=min_count, oov_buckets=oov_buckets)

    @classmethod
    def counted(
        cls, tokens: np.ndarray, counts: np.ndarray, *, min_count: int, oov_buckets: int
    ) -> Vocabulary:
        """Keep the frequent ones of distinct `tokens` ([n] str) that were seen `counts` times."""
        keep = (counts >= min_count) & (tokens != "")
        tokens, counts = tokens[keep], counts[keep]
        order = np.lexsort((tokens, -counts))
        return cls(tuple(tokens[order].tolist()), tuple(counts[order].tolist()), oov_buckets)

    @property
    def size(self) -> int:
        """Number of distinct encoded values, the missing one and the buckets included."""
        return len(self.tokens) + 1 + self.oov_buckets

    def save(self, path: Path) -> None:
        """Write one `token<TAB>count` line each; tokens cannot hold tabs or line ends."""
        for token in self.tokens:
            if any(sign in token for sign in "\n\r\t"):
                raise UserError(
                    f"{path.stem}: the value {token!r} holds a tab or a line end, which a "
                    "vocabulary file cannot keep; clean the column"
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            f"{token}\t{count}\n" for token, count in zip(self.tokens, self.counts, strict=True)
        )
        path.write_text("".join(lines), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path, *, oov_buckets: int) -> Vocabulary:
        """Read what `save` wrote."""
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        pairs = [line.rsplit("\t", 1) for line in lines]
        return cls(tuple(p[0] for p in pairs), tuple(int(p[1]) for p in pairs), oov_buckets)


class VocabularyLookup(tf.Module):
    """The graph's side of a `Vocabulary`: a table that reads the vocabulary's file as an asset."""

    def __init__(self, path: Path, *, oov_buckets: int, empty: bool = False) -> None:
        """Open the file `path`; `empty` says that it holds no token (TensorFlow refuses such)."""
        super().__init__()
        self._oov_buckets = oov_buckets
        self._table = None
        if not empty:
            file = tf.lookup.TextFileInitializer(
                str(path),
                key_dtype=tf.string,
                key_index=0,
                value_dtype=tf.int64,
                value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
                delimiter="\t",
            )
            self._table = tf.lookup.StaticVocabularyTable(file, num_oov_buckets=oov_buckets)

    @overload
    def __call__(self, values: tf.Tensor) -> tf.Tensor: ...

    @overload
    def __call__(self, values: tf.RaggedTensor) -> tf.RaggedTensor: ...

    def __call__(self, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """Encode strings of any shape to int32 of the same shape."""
        if isinstance(values, tf.RaggedTensor):
            return values.with_flat_values(self(values.flat_values))
        if self._table is None:
            found = tf.strings.to_hash_bucket_fast(values, self._oov_buckets)
        else:
            found = self._table.lookup(values)
        return tf.where(values == "", 0, tf.cast(found, tf.int32) + 1)
