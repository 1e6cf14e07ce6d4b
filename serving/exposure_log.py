"""A sampled log of what was served: Parquet shards that `tandem fit` reads as impressions."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interactions.errors import UserError
from serving.tensors import to_array

_LOG = logging.getLogger(__name__)

IMPRESSION = "impression"
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("event", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("position", pa.int32()),
        ("score", pa.float32()),
        ("retrieval_score", pa.float32()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("exploration", pa.float32()),
        ("sample_share", pa.float64()),
    ]
)
"""One row per item of a list. `request_id` is that of one list of one user; `event` is always
`impression`; `position` counts from 1; `exploration` is the share of the list that was not placed
by its score; `sample_share` is the probability with which the list was logged."""

_USER_ID, _ITEM_ID, _COUNT = "user_id", "item_id", "count"
_SCORES = ("score", "retrieval_score")
_NEEDED = (_ITEM_ID, _COUNT, *_SCORES)


@dataclass(frozen=True)
class ExposureLogOptions:
    """What is logged, and where; raises UserError for a share or a size out of its range."""

    folder: Path
    share: float = 0.01
    """Probability with which a list is logged."""
    places: int = 10
    """How much of a list counts as shown: a server does not know how far its caller reads."""
    model: str = "recommender"
    rows_per_shard: int = 100_000
    seconds_per_shard: float = 300.0
    """A shard is closed at whichever comes first; a crash loses what is not in a shard yet."""
    most_waiting: int = 1000
    """Answers that may wait to be written; more are dropped, and counted."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 < self.share <= 1:
            raise UserError(f"exposure_log_share is {self.share:g}; give more than 0, at most 1")
        for name in ("places", "rows_per_shard", "most_waiting"):
            if getattr(self, name) < 1:
                raise UserError(f"exposure log: {name} is {getattr(self, name)}; give at least 1")


@dataclass(frozen=True)
class ExposureCounts:
    """What has become of the items that were drawn to be logged."""

    written: int
    """Rows in finished shards."""
    dropped_answers: int
    """Answers that found the queue full, or that are no lists of a recommender."""
    lost_rows: int
    """Rows whose shard could not be written."""


@dataclass(frozen=True)
class _Drawn:
    """An answer of which some lists are logged; the messages are read later, never changed."""

    request: Any
    response: Any
    lists: tuple[int, ...]
    microseconds: int


class ExposureLog:
    """Draws lists from answers and has a thread of its own write them; `close` ends it.

    Raises UserError for a folder that cannot be made. `seed` fixes which lists are drawn.
    """

    def __init__(self, options: ExposureLogOptions, *, seed: int | None = None) -> None:
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the exposure log {options.folder} cannot be made ({error.strerror}); "
                "give a folder with rights and room"
            ) from error
        self._options = options
        self._random = random.Random(seed)
        self._waiting: queue.Queue[_Drawn | None] = queue.Queue(options.most_waiting)
        self._lock = threading.Lock()
        self._dropped = 0
        self._writer = _Writer(options)
        self._thread = threading.Thread(target=self._write, name="exposure-log", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> ExposureCounts:
        """What has been written and dropped so far."""
        with self._lock:
            dropped = self._dropped
        return ExposureCounts(
            written=self._writer.written,
            dropped_answers=dropped,
            lost_rows=self._writer.lost,
        )

    def observe(self, request: Any, response: Any) -> None:
        """Draw lists from the answer to a PredictRequest; neither waits nor raises.

        Answers of other models than the one that is logged are passed over. The messages must not
        be changed afterwards.
        """
        if response.model_spec.name != self._options.model:
            return
        lists = self._draw(request)
        if not lists:
            return
        now = time.time_ns() // 1000
        try:
            self._waiting.put_nowait(_Drawn(request, response, lists, now))
        except queue.Full:
            self._drop()

    def close(self) -> None:
        """Write what waits into a last shard, and end the thread."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
            counts = self.counts
            _LOG.info(
                "exposure log: %d rows written, %d answers dropped, %d rows lost",
                counts.written, counts.dropped_answers, counts.lost_rows,
            )  # fmt: skip

    def _draw(self, request: Any) -> tuple[int, ...]:
        # A map of protobuf makes the entry that it is asked for.
        if _USER_ID not in request.inputs:
            return ()
        dims = request.inputs[_USER_ID].tensor_shape.dim
        size = dims[0].size if len(dims) == 1 else 0
        return tuple(row for row in range(size) if self._random.random() < self._options.share)

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1
            first = self._dropped == 1
        if first:
            _LOG.warning("the exposure log drops answers; its counts say how many when it closes")

    def _write(self) -> None:
        while True:
            try:
                drawn = self._waiting.get(timeout=self._writer.seconds_left())
            except queue.Empty:
                self._writer.flush()
                continue
            if drawn is None:
                self._writer.flush()
                return
            try:
                rows = list(_rows(drawn, self._options))
            except (ValueError, KeyError, IndexError):
                self._drop()
                continue
            self._writer.add(rows)


class _Writer:
    """Gathers rows and writes them as shards, beside and renamed; used by one thread."""

    def __init__(self, options: ExposureLogOptions) -> None:
        self._options = options
        self._rows: list[dict[str, Any]] = []
        self._since = 0.0
        self.written = 0
        self.lost = 0

    def seconds_left(self) -> float | None:
        """Return when the shard is to be closed; None where it has no rows."""
        if not self._rows:
            return None
        return max(self._since + self._options.seconds_per_shard - time.monotonic(), 0.0)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add rows of `SCHEMA`; write the shard that they fill, or that is due."""
        if not self._rows:
            self._since = time.monotonic()
        self._rows += rows
        if len(self._rows) >= self._options.rows_per_shard or self.seconds_left() == 0.0:
            self.flush()

    def flush(self) -> None:
        """Write the rows that there are; those that cannot be written are lost and counted."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        file = self._options.folder / f"exposures-{moment}-{uuid.uuid4().hex[:12]}.parquet"
        # Readers of shards pass over names that begin with a dot.
        beside = file.with_name(f".{file.name}.partial")
        try:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), beside, compression="zstd")
            beside.replace(file)
        except (OSError, pa.ArrowException) as error:
            self.lost += len(rows)
            _LOG.error("a shard of the exposure log is lost: %s", type(error).__name__)
            beside.unlink(missing_ok=True)
            return
        self.written += len(rows)


def _rows(drawn: _Drawn, options: ExposureLogOptions) -> Iterator[dict[str, Any]]:
    """Give a row of `SCHEMA` for each item shown; raises ValueError for an answer without them."""
    missing = [name for name in _NEEDED if name not in drawn.response.outputs]
    if missing:
        raise ValueError(f"no output {missing}")
    users = to_array(drawn.request.inputs[_USER_ID])
    # item_id and scores [B, max_k], count [B]
    outputs = {name: to_array(drawn.response.outputs[name]) for name in _NEEDED}
    spec = drawn.response.model_spec
    for row in drawn.lists:
        request_id = uuid.uuid4().hex
        for place in range(min(options.places, int(outputs[_COUNT][row]))):
            yield {
                "request_id": request_id,
                "event": IMPRESSION,
                "user_id": users[row].decode("utf-8"),
                "item_id": outputs[_ITEM_ID][row, place].decode("utf-8"),
                "timestamp": drawn.microseconds,
                "position": place + 1,
                "score": outputs["score"][row, place],
                "retrieval_score": outputs["retrieval_score"][row, place],
                "model": spec.name,
                "version": spec.version.value,
                # The served graph places every item by its score.
                "exploration": 0.0,
                "sample_share": options.share,
            }
