"""Requests that a server replays before it answers, so that no user waits for the first run."""

# isort: off
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.backend import tf  # sets TensorFlow up, which the messages below import
from export.inputs import (
    AT_MOST, DIVERSITY, EXCLUDE, EXPLAIN, HISTORY, K, LEAST, NEVER, ONLY, USER_ID, request_inputs,
)  # fmt: skip
from export.signatures import (
    DEFAULT,
    ITEM_ID,
    RANKING,
    RECOMMENDER,
    REQUEST,
    RETRIEVAL,
    RETRIEVAL_SCORE,
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
            for signature, inputs in _requests(system, widths=widths, batch=batch)[model]:
                writer.write(_record(model, signature, inputs).SerializeToString())


def _requests(system: System, *, widths: Widths, batch: int) -> dict[str, list[tuple[str, Inputs]]]:
    """Signatures with their inputs, by model."""
    users = {USER_ID: np.resize(system.log.user_ids, batch)}
    items = {ITEM_ID: np.resize(system.log.item_ids, batch)}
    shape = (batch, widths.candidates)
    candidates = {
        ITEM_ID: np.resize(system.log.item_ids, shape),
        RETRIEVAL_SCORE: np.zeros(shape, np.float32),
    }
    inputs = request_inputs(system, widths=widths.request)
    silent = {one.name: one.blanks(batch) for one in inputs} | users
    silent |= {K: np.full(batch, widths.max_k, np.int32)}
    return {
        RETRIEVAL: [
            (DEFAULT, users),
            ("embed_user", users),
            ("embed_item", items),
            ("similar_items", items),
        ],
        RANKING: [(DEFAULT, users | candidates)],
        RECOMMENDER: [(DEFAULT, users), (REQUEST, silent), (REQUEST, _full(silent, system))],
    }


def _full(silent: Inputs, system: System) -> Inputs:
    """Fill a request's inputs, so that every step which some request needs has run once."""
    asked = {}
    for name, blank in silent.items():
        if name in (HISTORY, EXCLUDE):
            asked[name] = np.full_like(blank, system.log.item_ids[0])
        elif name.startswith((ONLY, NEVER)):
            asked[name] = np.full_like(blank, "any")
        elif name.startswith((AT_MOST, LEAST)) or name in (DIVERSITY, EXPLAIN):
            asked[name] = np.ones_like(blank)
    return {**silent, **asked}


def _record(model: str, signature: str, inputs: Inputs) -> PredictionLog:
    record = PredictionLog()
    request = record.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return record
