"""The signatures of the three models: names, types and widths of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from export.answering import Answering
from export.config import RequestConfig
from export.inputs import TASK_WEIGHTS, USER_ID
from export.reading import RequestReader
from export.recommender import Candidates, Ranked, Recommender, width_of
from export.system import LOWEST, System
from features.backend import tf
from interactions.errors import UserError

RETRIEVAL, RANKING, RECOMMENDER = "retrieval", "ranking", "recommender"
MODELS = (RETRIEVAL, RANKING, RECOMMENDER)
"""In the order in which they are published: the one that is served comes last."""
DEFAULT = "serving_default"
ITEM_ID, EMBEDDING = "item_id", "embedding"
SCORE, RETRIEVAL_SCORE, COUNT = "score", "retrieval_score", "count"
REQUEST = "recommend"
"""The signature that takes a request's own rules."""
BECAUSE_ITEM_ID, BECAUSE_SCORE = "because_item_id", "because_score"
_TAKEN = (
    USER_ID, ITEM_ID, SCORE, RETRIEVAL_SCORE, COUNT, BECAUSE_ITEM_ID, BECAUSE_SCORE, TASK_WEIGHTS,
)  # fmt: skip


@dataclass(frozen=True)
class Widths:
    """The fixed widths of answers."""

    max_k: int
    """Of the recommender's lists."""
    candidates: int
    """Of the retrieval model's lists, and how many the recommender ranks."""
    request: RequestConfig = field(default_factory=RequestConfig)
    """Of the lists that a request brings."""


def signatures(recommender: Recommender, *, widths: Widths) -> Mapping[str, Mapping[str, Any]]:
    """Return the signatures, tf.functions by name, of each of MODELS."""
    return {
        RETRIEVAL: _retrieval(recommender, width=widths.candidates),
        RANKING: {DEFAULT: _ranking(recommender)},
        RECOMMENDER: {
            DEFAULT: _recommend(recommender, widths=widths),
            REQUEST: _request(recommender, widths=widths),
        },
    }


def check_task_names(system: System) -> None:
    """Refuse tasks whose name is that of another output, as UserError."""
    for task in system.tasks:
        if task in _TAKEN:
            raise UserError(
                f"the task {task!r} has the name of an output of the served models; rename it"
            )


def _retrieval(recommender: Recommender, *, width: int) -> dict[str, Any]:
    def retrieve(user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        query = recommender.encode(user_id)
        unseen = recommender.unseen(query)
        found = recommender.retrieve(query, recommender.seek(query), unseen, k=width)
        return _lists(recommender, found.item, {SCORE: found.score}, width=width)

    def embed_user(user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        return {EMBEDDING: recommender.embed(recommender.encode(user_id))}

    def embed_item(item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        return {EMBEDDING: recommender.retriever.embed_items(recommender.items.rows(item_id))}

    def similar_items(item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = recommender.items.rows(item_id)
        # unit vectors without their biases, so that the product is the cosine
        vectors = recommender.exact.gather(tf.maximum(rows, 0))
        vectors = tf.concat([vectors[:, :-1], tf.zeros_like(vectors[:, -1:])], axis=1)
        found = recommender.exact.search(vectors, k=width + 1)
        # an item is not similar to itself, and nothing can be said of an unknown one
        wrong = (found.item == rows[:, tf.newaxis]) | (rows < 0)[:, tf.newaxis]
        item = tf.where(wrong, -1, found.item)
        order = tf.argsort(tf.cast(item < 0, tf.int32), axis=1, stable=True)[:, :width]
        item = tf.gather(item, order, batch_dims=1)
        score = tf.gather(found.score, order, batch_dims=1)
        return _lists(recommender, item, {SCORE: score}, width=width)

    by_user, by_item = _ids(USER_ID), _ids(ITEM_ID)
    return {
        DEFAULT: tf.function(retrieve, input_signature=[by_user]),
        "embed_user": tf.function(embed_user, input_signature=[by_user]),
        "embed_item": tf.function(embed_item, input_signature=[by_item]),
        "similar_items": tf.function(similar_items, input_signature=[by_item]),
    }


def _ranking(recommender: Recommender) -> Any:
    def rank(
        user_id: tf.Tensor, item_id: tf.Tensor, retrieval_score: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # the empty string pads retrieved lists; an unknown id is an item without features
        there = item_id != ""
        usable = there & tf.math.is_finite(retrieval_score)
        score = tf.where(usable, retrieval_score, 0.0)
        items = Candidates(recommender.items.rows(item_id), score)
        predicted = recommender.predict(recommender.encode(user_id), items)
        ranked = recommender.order(predicted)
        outputs = {SCORE: ranked.score, **ranked.tasks}
        return {name: tf.where(there, value, LOWEST) for name, value in outputs.items()}

    return tf.function(
        rank,
        input_signature=[
            _ids(USER_ID),
            tf.TensorSpec([None, None], tf.string, name=ITEM_ID),
            tf.TensorSpec([None, None], tf.float32, name=RETRIEVAL_SCORE),
        ],
    )


def _recommend(recommender: Recommender, *, widths: Widths) -> Any:
    def recommend(user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        best = recommender.recommend(user_id, candidates=widths.candidates, k=widths.max_k)
        return _ranked_lists(recommender, best, width=widths.max_k)

    return tf.function(recommend, input_signature=[_ids(USER_ID)])


def _request(recommender: Recommender, *, widths: Widths) -> Any:
    reader = RequestReader(recommender, widths=widths.request)
    answering = Answering(
        recommender, candidates=widths.candidates, max_k=widths.max_k, widths=widths.request
    )

    def recommend(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        best, because, weights = answering.answer(reader.read(given))
        reasons = _lists(
            recommender, because.item, {BECAUSE_SCORE: because.score}, width=widths.max_k
        )
        return {
            **_ranked_lists(recommender, best, width=widths.max_k),
            BECAUSE_ITEM_ID: reasons[ITEM_ID],
            BECAUSE_SCORE: reasons[BECAUSE_SCORE],
            TASK_WEIGHTS: weights,
        }

    return tf.function(recommend, input_signature=[one.spec() for one in reader.all])


def _ids(name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None], tf.string, name=name)


def _ranked_lists(recommender: Recommender, best: Ranked, *, width: int) -> dict[str, tf.Tensor]:
    columns = {SCORE: best.score, RETRIEVAL_SCORE: best.retrieval_score, **best.tasks}
    return _lists(recommender, best.item, columns, width=width)


def _lists(
    recommender: Recommender, item: tf.Tensor, columns: Mapping[str, tf.Tensor], *, width: int
) -> dict[str, tf.Tensor]:
    """Widen lists [B, n], n <= width, to `width` places; count says how many are real."""
    more = [[0, 0], [0, width - width_of(item)]]
    item = tf.pad(item, more, constant_values=-1)
    there = item >= 0
    widened = {
        name: tf.where(there, tf.pad(values, more), LOWEST) for name, values in columns.items()
    }
    count = tf.reduce_sum(tf.cast(there, tf.int32), axis=1)
    return {ITEM_ID: recommender.items.ids(item), **widened, COUNT: count}
