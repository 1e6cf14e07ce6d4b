"""A bundle's recommender asked in process: user ids in, rows of recommendations out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from export.manifest import Bundle
from export.signatures import (
    COUNT,
    DEFAULT,
    ITEM_ID,
    RECOMMENDER,
    RETRIEVAL_SCORE,
    SCORE,
    USER_ID,
)
from features.backend import tf
from interactions.errors import UserError

RANK = "rank"


def check_k(bundle: Bundle, k: int) -> None:
    """Raise UserError where `k` is not between 1 and the bundle's max_k."""
    max_k = bundle.manifest.widths.max_k
    if not 1 <= k <= max_k:
        raise UserError(
            f"k={k} is not between 1 and max_k={max_k} of the bundle {bundle.folder}; "
            "ask for fewer, or export with a larger export.max_k"
        )


class Answerer:
    """The recommender of a bundle, answering lists of users with `k` items each."""

    def __init__(self, bundle: Bundle, *, k: int) -> None:
        """Load the model; raises UserError as `check_k` does."""
        check_k(bundle, k)
        self._k, self._batch = k, bundle.manifest.widths.max_batch
        self._tasks = tuple(bundle.manifest.tasks)
        self._model = tf.saved_model.load(str(bundle.model(RECOMMENDER)))
        self._signature = self._model.signatures[DEFAULT]

    @property
    def schema(self) -> pa.Schema:
        """Columns of an answer."""
        numbers = [SCORE, RETRIEVAL_SCORE, *self._tasks]
        return pa.schema(
            [
                (USER_ID, pa.string()),
                (RANK, pa.int32()),
                (ITEM_ID, pa.string()),
                *((name, pa.float32()) for name in numbers),
            ]
        )

    def __call__(self, user_ids: Sequence[str]) -> pa.Table:
        """Return one row per recommendation, rank 1 first, in the order of `user_ids`."""
        # the model's memory grows with the batch, so many users are asked for in turns
        starts = range(0, len(user_ids), self._batch)
        parts = [self._answer(user_ids[start : start + self._batch]) for start in starts]
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _answer(self, user_ids: Sequence[str]) -> pa.Table:
        asked = np.array(user_ids, object)
        outputs = {
            name: value.numpy()
            for name, value in self._signature(user_id=tf.constant(asked, tf.string)).items()
        }
        real = np.arange(self._k) < outputs[COUNT][:, np.newaxis]  # [users, k]
        user, place = np.nonzero(real)
        columns = {
            USER_ID: asked[user],
            RANK: (place + 1).astype(np.int32),
            ITEM_ID: [item.decode("utf-8") for item in outputs[ITEM_ID][user, place]],
        }
        for name in self.schema.names[len(columns) :]:
            columns[name] = outputs[name][user, place]
        return pa.table(columns, schema=self.schema)
