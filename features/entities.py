"""All encoders of one entity: a user, an item or an event's context."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.backend import tf
from features.config import FeaturesConfig
from features.encoders import (
    CategoricalEncoder,
    CategoriesEncoder,
    FeatureSpec,
    NumericEncoder,
    VectorEncoder,
)
from features.text import TextEncoder
from features.vocabulary import Vocabulary
from interactions.config import FeatureConfig

Encoder = CategoricalEncoder | CategoriesEncoder | NumericEncoder | TextEncoder | VectorEncoder

# Any: each kind is made from a state of its own
_ENCODERS: dict[str, Any] = {
    "categorical": CategoricalEncoder,
    "categories": CategoriesEncoder,
    "numeric": NumericEncoder,
    "text": TextEncoder,
    "vector": VectorEncoder,
}
_CHUNK = 65_536


@dataclass(frozen=True)
class EncodedTable:
    """Every encoded feature of every row of an entity."""

    specs: tuple[FeatureSpec, ...]
    arrays: Mapping[str, np.ndarray]
    """By feature: [rows + 1] or [rows + 1, width]; the last row is the unknown one."""


class EntityEncoders(tf.Module):
    """The encoders of one entity, by feature, kept as JSON and vocabulary files in a folder."""

    def __init__(self, encoders: Sequence[Encoder], folder: Path) -> None:
        super().__init__()
        self._encoders = {encoder.spec.name: encoder for encoder in encoders}
        self._folder = folder

    @classmethod
    def fit(
        cls,
        features: Sequence[FeatureConfig],
        table: pa.Table,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> EntityEncoders:
        """Learn every encoder from `table`: the rows that the stage trains on, and no others."""
        folder.mkdir(parents=True, exist_ok=True)
        encoders = [
            _ENCODERS[feature.kind].fit(feature, table[feature.name], config=config, folder=folder)
            for feature in features
        ]
        _write(encoders, features, folder)
        return cls(encoders, folder)

    @classmethod
    def fit_with_ids(
        cls,
        features: Sequence[FeatureConfig],
        table: pa.Table,
        *,
        id_name: str,
        counts: np.ndarray,
        config: FeaturesConfig,
        folder: Path,
    ) -> EntityEncoders:
        """As `fit`, on the entities that were seen, with their ids as one more feature.

        `table` holds `id_name` and the features of every entity; `counts` [rows] int says how
        often each stood in the rows that the stage trains on.
        """
        seen = table.filter(pa.array(counts > 0))
        fitted = cls.fit(features, seen, config=config, folder=folder)
        vocabulary = Vocabulary.counted(
            table[id_name].to_numpy().astype(str),
            counts,
            min_count=config.min_count,
            oov_buckets=config.oov_buckets,
        )
        id_feature = FeatureConfig(name=id_name, kind="categorical")
        encoders = [
            CategoricalEncoder(id_feature, vocabulary, folder),
            *fitted._encoders.values(),
        ]
        _write(encoders, [id_feature, *features], folder)
        return cls(encoders, folder)

    @classmethod
    def load(cls, folder: Path) -> EntityEncoders:
        """Read what `fit` left in `folder`."""
        encoders: list[Encoder] = []
        for entry in json.loads((folder / "encoders.json").read_text(encoding="utf-8")):
            feature, state = FeatureConfig(**entry["feature"]), entry["state"]
            if feature.kind in ("categorical", "categories"):
                buckets = state.pop("oov_buckets")
                path = folder / f"{feature.name}.tsv"
                vocabulary = Vocabulary.load(path, oov_buckets=buckets)
                encoders.append(_ENCODERS[feature.kind](feature, vocabulary, folder, **state))
            elif feature.kind == "numeric":
                encoders.append(NumericEncoder(feature, np.array(state["knots"])))
            else:
                encoders.append(_ENCODERS[feature.kind](feature, **state))
        return cls(encoders, folder)

    def without(self, name: str) -> EntityEncoders:
        """Return the encoders of all features but `name`."""
        others = [encoder for own, encoder in self._encoders.items() if own != name]
        return EntityEncoders(others, self._folder)

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What each encoded feature looks like, in order."""
        return tuple(encoder.spec for encoder in self._encoders.values())

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encode raw tensors by feature name, [n] or [n, width], to ids or numbers."""
        return {name: encoder(raw[name]) for name, encoder in self._encoders.items()}

    def raw(self, table: pa.Table) -> dict[str, tf.Tensor]:
        """Turn the columns of `table` into what `__call__` takes."""
        return {name: encoder.raw(table[name]) for name, encoder in self._encoders.items()}

    def encode(self, table: pa.Table, *, unknown: bool = True) -> EncodedTable:
        """Encode all rows; `unknown` adds a last row in which everything is missing."""
        parts = [
            self._numpy(table.slice(start, _CHUNK)) for start in range(0, table.num_rows, _CHUNK)
        ]
        if unknown or not parts:
            blank = {field.name: pa.nulls(1, field.type) for field in table.schema}
            parts.append(self._numpy(pa.table(blank)))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in self._encoders}
        return EncodedTable(self.specs, arrays)

    def _numpy(self, table: pa.Table) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self(self.raw(table)).items()}


def _write(encoders: Sequence[Encoder], features: Sequence[FeatureConfig], folder: Path) -> None:
    state = [
        {"feature": feature.model_dump(), "spec": asdict(encoder.spec), "state": encoder.state}
        for feature, encoder in zip(features, encoders, strict=True)
    ]
    (folder / "encoders.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
