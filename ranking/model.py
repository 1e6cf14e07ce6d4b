"""The ranker: features of query and candidate, their interaction, experts, a tower for each task,
and its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.backend import tf
from features.distinct import distinct
from features.encoders import FeatureSpec
from features.layers import EntityTable, FeatureEmbedding
from ranking import cross
from ranking.calibration import Blend, Calibrator
from ranking.config import RankingConfig
from ranking.experts import Towers, experts_of
from ranking.heads import Heads, Outputs
from ranking.history import HistoryItems, history_of
from ranking.inputs import RETRIEVAL, ItemVectors, RankerInputs, Request
from ranking.interaction import interaction_of
from ranking.past import Past
from ranking.sides import Sides
from training.dropout import dropout, hide_ids

__all__ = ["RETRIEVAL", "Past", "Ranker", "RankerInputs", "Request"]

_ITEMS_AT_ONCE = 8192
_RECENT = 20
"""Latest items of a history whose neighbours are looked for among the candidates."""


@dataclass(frozen=True)
class _Calibration:
    """How predictions become what people read; tasks that are not here stay as they are."""

    by_task: Mapping[str, Calibrator]


class Ranker(tf.Module):
    """Scores candidates for every task; the query side is computed once per query."""

    def __init__(self, inputs: RankerInputs, config: RankingConfig, past: Past) -> None:
        super().__init__(name="ranker")
        self.config, self.tasks = config, dict(inputs.tasks)
        self.inputs = inputs
        self._items = EntityTable(inputs.items, name="ranker_items")
        self.users = EntityTable(inputs.users, name="ranker_users")
        self.past = past
        content = [spec for spec in inputs.items.specs if spec.name != inputs.item_id]
        self._content_specs = tuple(content)
        about = [spec for spec in inputs.users.specs if spec.name != inputs.user_id]
        ids = next(spec for spec in inputs.items.specs if spec.name == inputs.item_id)
        self._id = tf.keras.layers.Embedding(ids.size, config.embedding_dim, name="item_id")
        self._content = _embedding(content, config, "content")
        self._item_vector = tf.keras.layers.Dense(config.embedding_dim, name="item_vector")
        self._about = _embedding(about, config, "about")
        self._context = _embedding(inputs.context, config, "context")
        self._history = history_of(config)
        self._interaction = interaction_of(config)
        self._experts = experts_of(config, tuple(self.tasks))
        self._towers = Towers(config.tower_dims, tasks=tuple(self.tasks), rate=config.dropout)
        self.heads = Heads(inputs)
        self._calibration = _Calibration({})
        self._build()

    def __call__(
        self, request: Request, *, item_vectors: tf.Variable | None = None
    ) -> dict[str, tf.Tensor]:
        """Predict, by task, [B, C] float32, calibrated where `calibrate` said how.

        For the retrieval task and binary ones the logit, for a regression the label itself.
        `item_vectors` are those of `vectors_of_items`, where somebody keeps them; they are made of
        the items' features where left out.
        """
        request = _trimmed(request)
        if item_vectors is None:
            (vectors,) = self._vectors([request], None)
        else:
            vectors = ItemVectors(
                tf.gather(item_vectors, self._items.known(request.candidates)),
                tf.gather(item_vectors, self._items.known(request.history)),
            )
        outputs = self._outputs(request, vectors, None)
        predictions = dict(outputs.predictions)
        for task, calibrator in self._calibration.by_task.items():
            value = predictions[task]
            if isinstance(calibrator, Blend):
                known = outputs.expected.get(task, request.retrieval_score)
                predictions[task] = calibrator(value, known)
            else:
                predictions[task] = calibrator(value)
        return predictions

    def outputs(self, requests: Sequence[Request], seed: tf.Tensor | None = None) -> list[Outputs]:
        """Predict as the ranker learns to, nothing calibrated; `seed` [2] int32 turns dropout on.

        An item is embedded once for all `requests`.
        """
        requests = [_trimmed(request) for request in requests]
        return [
            self._outputs(
                request, vectors, None if seed is None else seed + tf.constant([place, 0])
            )
            for place, (request, vectors) in enumerate(
                zip(requests, self._vectors(requests, seed), strict=True)
            )
        ]

    def _outputs(self, request: Request, vectors: ItemVectors, seed: tf.Tensor | None) -> Outputs:
        mask = tf.cast(request.history >= 0, tf.float32)
        history = HistoryItems(vectors.history, mask)
        mean = history.mean()
        expected = self.expected(request.users, request.candidates)
        numbers = self._numbers(request, mask, vectors.candidates, mean, expected)
        sides = Sides(
            self._query(request, mean, mask, seed),
            tf.concat(
                [
                    vectors.candidates,
                    self._history(history, vectors.candidates, seed),
                    numbers.candidate,
                ],
                axis=-1,
            ),
        )
        hidden = self._towers(self._experts(self._interaction(sides), seed), seed)
        return replace(self.heads(hidden, numbers), expected=expected)

    def expected(self, users: tf.Tensor, candidates: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the factors of past labels expect of `users` [B] and `candidates` [B, C].

        By task that has them, [B, C] float32, within the bounds of its labels.
        """
        result = {}
        for task in self.past.factorised:
            label, bounds = self.past.expected(task, users, candidates), self.inputs.bounds(task)
            result[task] = label if bounds is None else tf.clip_by_value(label, *bounds)
        return result

    def vectors_of_items(self) -> np.ndarray:
        """Compute the vectors of all items and, last, of an unknown one, [items + 1, D] float32."""
        rows = np.arange(self._items.rows + 1, dtype=np.int32)
        starts = range(0, len(rows), _ITEMS_AT_ONCE)
        parts = [self._embedded(tf.constant(rows[s : s + _ITEMS_AT_ONCE]), None) for s in starts]
        return np.concatenate([part.numpy() for part in parts])

    def calibrate(self, calibrators: Mapping[str, Calibrator]) -> None:
        """Calibrate these tasks' predictions from now on; graphs traced before do not know it."""
        self._calibration = _Calibration(dict(calibrators))

    @property
    def calibrators(self) -> Mapping[str, Calibrator]:
        """How predictions are calibrated, by task."""
        return self._calibration.by_task

    @property
    def last_shared(self) -> list[tf.Variable]:
        """The weights of the last layer that all tasks use."""
        kernels = self._experts.last_shared or self._interaction.last_kernels
        return kernels or [self._item_vector.kernel]

    def start_from_retrieval(self, scale: float) -> None:
        """Make a new ranker's retrieval logit `scale` times the retrieval score, to learn from."""
        # the retrieval score is the first of the numbers
        self.heads.start_linear(RETRIEVAL, 0, scale)

    def start_from_factors(self) -> None:
        """Make a new ranker's regressions what the labels' factors expect, to learn from."""
        for place, task in enumerate(self.past.factorised, start=1):
            if task in self.tasks and self.tasks[task].kind == "regression":
                self.heads.start_linear(task, place, 1.0)

    def _vectors(self, requests: Sequence[Request], seed: tf.Tensor | None) -> list[ItemVectors]:
        """Embed each distinct item of `requests` once: lists and histories share most of theirs."""
        asked = [rows for request in requests for rows in (request.candidates, request.history)]
        every = self._items.known(tf.concat([tf.reshape(rows, [-1]) for rows in asked], axis=0))
        items, place = distinct(every, size=self._items.rows + 1)
        vectors = self._embedded(items, seed)
        places = tf.split(place, tf.stack([tf.size(rows) for rows in asked]), num=len(asked))
        found = [
            tf.gather(vectors, tf.reshape(own, tf.shape(rows)))
            for own, rows in zip(places, asked, strict=True)
        ]
        return [ItemVectors(*pair) for pair in zip(found[::2], found[1::2], strict=True)]

    def _embedded(self, rows: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """Vectors of item rows, [n] int32 to [n, D]."""
        features = self._items(rows)
        rate, unknown = self.config.id_dropout, self._id.input_dim - 1
        ids = hide_ids(features[self.inputs.item_id], rate, seed, unknown=unknown, salt=11)
        parts = [self._id(ids)]
        if self._content is not None:
            parts.append(self._content(features))
        return self._item_vector(tf.concat(parts, axis=-1))

    def _query(
        self, request: Request, mean: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Everything known without the candidates, [B, features]."""
        count = tf.reduce_sum(mask, axis=1, keepdims=True)
        parts = [mean, self.past.user(request.users), tf.math.log1p(count)]
        if self._about is not None:
            about = self.users(request.users) if request.about is None else request.about
            parts.append(self._about(about))
        if self._context is not None:
            context = self._context(request.context)
            parts.append(dropout(context, self.config.dropout, seed, salt=13))
        return tf.concat(parts, axis=-1)

    def _numbers(
        self,
        request: Request,
        mask: tf.Tensor,
        vectors: tf.Tensor,
        mean: tf.Tensor,
        expected: Mapping[str, tf.Tensor],
    ) -> Sides:
        """What can be said in plain numbers, [B, names] and [B, C, names]."""
        compared = {spec.name for spec in self._content_specs if spec.kind != "text"}
        candidate = self._items(request.candidates, compared)
        history = self._items(request.history, compared)
        recent = min(_RECENT, self.config.history)
        near, weight = self.past.neighbours(_latest(request.history, mask, recent))
        together = cross.chosen_together(request.candidates, near, weight)
        last = cross.chosen_together(request.candidates, near[:, :1], weight[:, :1])
        single = [
            request.retrieval_score,
            *(self.heads.number_of(task, label) for task, label in expected.items()),
            cross.chosen_before(request.candidates, request.history),
            *together,
            *last,
            *cross.affinities(self._content_specs, candidate, history, mask),
            tf.squeeze(tf.matmul(vectors, mean[:, :, tf.newaxis]), axis=-1),
        ]
        return Sides(
            self.past.user(request.users),
            tf.concat([tf.stack(single, axis=-1), self.past.item(request.candidates)], axis=-1),
        )

    def _build(self) -> None:
        """Create every weight, so that a checkpoint finds them."""
        context = {
            spec.name: tf.zeros(
                [1, spec.width] if spec.width else [1], tf.int32 if spec.size else tf.float32
            )
            for spec in self.inputs.context
        }
        nothing = tf.fill([1, self.config.history], -1)
        unknown = tf.constant([-1])
        self.outputs([Request(unknown, nothing, context, nothing[:, :1], tf.zeros([1, 1]))])


def _trimmed(request: Request) -> Request:
    """Leave out the columns in which no history has an item, all but the first."""
    there = tf.cast(request.history >= 0, tf.int32)
    longest = tf.maximum(tf.reduce_max(tf.reduce_sum(there, axis=1)), 1)
    return replace(request, history=request.history[:, :longest])


def _latest(history: tf.Tensor, mask: tf.Tensor, length: int) -> tf.Tensor:
    """The last `length` items of each history [B, H], latest first, [B, length]; -1 is none."""
    count = tf.cast(tf.reduce_sum(mask, axis=1, keepdims=True), tf.int32)
    place = count - 1 - tf.range(length)
    return tf.where(place >= 0, tf.gather(history, tf.maximum(place, 0), batch_dims=1), -1)


def _embedding(
    specs: Sequence[FeatureSpec], config: RankingConfig, name: str
) -> FeatureEmbedding | None:
    return FeatureEmbedding(specs, dim=config.feature_dim, name=name) if specs else None
