"""Requests that a server replays before it answers, so that no user waits for the first run."""

# isort: off
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.backend import tf  # sets TensorFlow up, which the messages below import
from export.signatures import (
    DEFAULT,
    ITEM_ID,
    RANKING,
    RECOMMENDER,
    RETRIEVAL,
    RETRIEVAL_SCORE,
    USER_ID,
    Widths,
)
from export.system import System
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"

Inputs = Mapping[str, np.ndarray]


def write_warmup(
    folder: Path, model: str, *, system: System, widths: Widths, max_batch: int
) -> None:
    """Record a request for each signature of `model` at batch sizes 1 and `max_batch`."""
    file = folder / WARMUP_FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for batch in sorted({1, max_batch}):
            for signature, inputs in _requests(system, widths=widths, batch=batch)[model].items():
                writer.write(_record(model, signature, inputs).SerializeToString())


def _requests(system: System, *, widths: Widths, batch: int) -> dict[str, dict[str, Inputs]]:
    """Inputs by model and signature."""
    users = {USER_ID: np.resize(system.log.user_ids, batch)}
    items = {ITEM_ID: np.resize(system.log.item_ids, batch)}
    shape = (batch, widths.candidates)
    candidates = {
        ITEM_ID: np.resize(system.log.item_ids, shape),
        RETRIEVAL_SCORE: np.zeros(shape, np.float32),
    }
    return {
        RETRIEVAL: {
            DEFAULT: users,
            "embed_user": users,
            "embed_item": items,
            "similar_items": items,
        },
        RANKING: {DEFAULT: users | candidates},
        RECOMMENDER: {DEFAULT: users},
    }


def _record(model: str, signature: str, inputs: Inputs) -> PredictionLog:
    record = PredictionLog()
    request = record.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return record
