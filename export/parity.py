"""The exported models' answers against the Python models', stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.inputs import HISTORY, HISTORY_TIME, USER_ID, Input, K, request_inputs
from export.signatures import (
    COUNT,
    DEFAULT,
    ITEM_ID,
    RANKING,
    RECOMMENDER,
    REQUEST,
    RETRIEVAL,
    RETRIEVAL_SCORE,
    SCORE,
    Widths,
)
from export.system import LOWEST, Recommended, System, queries_now, recommend, rows_of, seen_by
from export.user_state import history_length
from features.backend import tf
from interactions.log import NEVER
from interactions.ragged import entries_of

UNKNOWN_USER = "a user whom nobody has seen"
_ALONE = 4
"""Users who are also asked for in a batch of their own."""
_BLOCK = 8

Outputs = Mapping[str, np.ndarray]


class ParityError(RuntimeError):
    """The exported models answer otherwise than the Python ones; nothing was published."""


@dataclass(frozen=True)
class Parity:
    """How far the exported models are from the Python ones."""

    largest_difference: Mapping[str, float]
    """By model; absolute below 1, relative above."""
    recall: float
    """Share of the true nearest items among those retrieved."""
    users: int


def check_parity(
    system: System,
    models: Mapping[str, Path],
    *,
    widths: Widths,
    tolerance: float,
    users: int,
    batch: int,
    seed: int = 0,
) -> Parity:
    """Ask the SavedModels in `models`, by name, for sampled users, and the Python models too.

    Users without a history and an unknown one are among them; they are asked for in batches of
    `batch` and, some of them, alone. Items whose scores differ by less than the tolerance may
    change places.

    Raises:
        ParityError: a difference is above `tolerance`; names the model, the output and the user.
    """
    ids = _sample(system, users=users, seed=seed)
    loaded = {name: tf.saved_model.load(str(path)) for name, path in models.items()}
    ask = {name: model.signatures[DEFAULT] for name, model in loaded.items()}
    request = loaded[RECOMMENDER].signatures[REQUEST]
    inputs = request_inputs(system, widths=widths.request)
    truth = recommend(system, ids, k=len(system.log.item_ids))
    check = _Comparison(system, ids, truth, tolerance=tolerance)
    largest = dict.fromkeys(models, 0.0)
    for part in _parts(len(ids), batch):
        some = [ids[place] for place in part]
        silent = _silent(inputs, some, k=widths.max_k)
        lists = (
            _ask(ask[RECOMMENDER], {USER_ID: some}),
            _ask(request, silent),
            _ask(request, silent | _told(system, some)),
        )
        found = {
            RETRIEVAL: check.retrieval(part, _ask(ask[RETRIEVAL], {USER_ID: some})),
            RANKING: check.ranking(part, lambda inputs: _ask(ask[RANKING], inputs)),
            RECOMMENDER: max(
                check.recommender(part, outputs, max_k=widths.max_k) for outputs in lists
            ),
        }
        largest = {name: max(largest[name], found[name]) for name in largest}
    return Parity(largest, check.recall(), len(ids))


class _Comparison:
    """Compares outputs for some of the sampled users; methods return the largest difference."""

    def __init__(
        self, system: System, ids: Sequence[str], truth: Recommended, *, tolerance: float
    ) -> None:
        self._system, self._ids, self._truth, self._tolerance = system, ids, truth, tolerance
        self._users = rows_of(system.log.user_ids, ids)
        self._queries = queries_now(self._users)
        self._seen = seen_by(system, self._users)
        # one more than is retrieved shows whether the last place is a near tie
        self._found = system.searcher.search(
            self._queries, k=system.candidates + 1, seen=self._seen
        )
        self._retrieved: dict[int, np.ndarray] = {}

    def retrieval(self, part: np.ndarray, outputs: Outputs) -> float:
        width = min(self._system.candidates, self._found.item.shape[1])
        items, there = self._listed(part, outputs, RETRIEVAL)
        for place, row in zip(part, items, strict=True):
            self._retrieved.setdefault(int(place), row)
        python = self._found.score[part, :width]
        self._same_counts(part, there, self._found.item[part, :width] >= 0, RETRIEVAL)
        same_items = self._system.searcher.score(self._queries.take(part), items)
        score = np.where(there, outputs[SCORE], 0.0)
        by_rank = np.where(self._found.item[part, :width] >= 0, python, 0.0)
        return max(
            self._difference(part, score, same_items, f"{RETRIEVAL}.{SCORE}"),
            self._difference(part, score[:, :width], by_rank, f"{RETRIEVAL}.{SCORE} by rank"),
        )

    def ranking(self, part: np.ndarray, ask: Callable[[Mapping[str, Any]], Outputs]) -> float:
        truth = self._truth
        there = truth.item[part] >= 0
        names = self._system.log.item_ids[np.maximum(truth.item[part], 0)]
        outputs = ask(
            {
                USER_ID: [self._ids[place] for place in part],
                ITEM_ID: np.where(there, names, ""),
                RETRIEVAL_SCORE: truth.retrieval_score[part],
            }
        )
        expected = {SCORE: truth.score, **truth.tasks}
        return max(
            self._difference(part, outputs[name], values[part], f"{RANKING}.{name}")
            for name, values in expected.items()
        )

    def recommender(self, part: np.ndarray, outputs: Outputs, *, max_k: int) -> float:
        truth = self._truth
        items, there = self._listed(part, outputs, RECOMMENDER)
        width = min(max_k, truth.item.shape[1])
        self._same_counts(part, there, truth.item[part, :width] >= 0, RECOMMENDER)
        # where the last candidate is a near tie, either of the two may have been ranked
        sure = ~self._tied_at_the_end()[part]
        same = items[:, :, np.newaxis] == truth.item[part][:, np.newaxis, :]
        known = there & same.any(axis=2)
        if (there & ~known)[sure].any():
            place = part[np.flatnonzero((there & ~known & sure[:, np.newaxis]).any(axis=1))[0]]
            raise ParityError(self._message(f"{RECOMMENDER}.{ITEM_ID}", int(place), "an item that"))
        column = same.argmax(axis=2)
        expected = {SCORE: truth.score, RETRIEVAL_SCORE: truth.retrieval_score, **truth.tasks}
        largest = 0.0
        for name, values in expected.items():
            python = np.where(known, np.take_along_axis(values[part], column, axis=1), 0.0)
            ours = np.where(known, outputs[name], 0.0)
            largest = max(largest, self._difference(part, ours, python, f"{RECOMMENDER}.{name}"))
        by_rank = truth.score[part, :width][sure]
        listed = outputs[SCORE][:, :width][sure]
        return max(
            largest,
            self._difference(part[sure], listed, by_rank, f"{RECOMMENDER}.{SCORE} by rank"),
        )

    def recall(self) -> float:
        """Compare what was retrieved with the products of all embeddings, in plain NumPy."""
        system, found, wanted = self._system, 0, 0
        embeddings = system.searcher.embeddings
        for block in _blocks(np.array(sorted(self._retrieved)), _BLOCK):
            scores = system.searcher.embed(self._queries.take(block)) @ embeddings.T
            seen = entries_of(self._seen, block)
            scores[seen.position, seen.item] = -np.inf
            scores[:, ~system.searcher.offered] = -np.inf
            for score, place in zip(scores, block, strict=True):
                items = self._retrieved[int(place)]
                items = items[items >= 0]
                if not len(items):
                    continue
                worst = np.partition(score, len(score) - len(items))[len(score) - len(items)]
                slack = self._tolerance * max(1.0, abs(float(worst)))
                found += int((score[items] >= worst - slack).sum())
                wanted += len(items)
        return found / wanted if wanted else 1.0

    def _tied_at_the_end(self) -> np.ndarray:
        """[users] bool: the first item left out scores as the last one retrieved."""
        score, width = self._found.score, self._system.candidates
        if score.shape[1] <= width:
            return np.zeros(len(score), bool)
        return np.abs(score[:, width - 1] - score[:, width]) <= 2 * self._tolerance

    def _listed(
        self, part: np.ndarray, outputs: Outputs, model: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Item rows of a list's ids, and where there are any; the rest must be padding."""
        names = outputs[ITEM_ID]
        there = np.arange(names.shape[1]) < outputs[COUNT][:, np.newaxis]
        texts = [name.decode() for name in names.ravel()]
        items = rows_of(self._system.log.item_ids, texts).reshape(names.shape)
        if (items[there] < 0).any() or (names[~there] != b"").any():
            raise ParityError(self._message(f"{model}.{ITEM_ID}", int(part[0]), "ids that"))
        if (outputs[SCORE][~there] != np.float32(LOWEST)).any():
            raise ParityError(self._message(f"{model}.{SCORE}", int(part[0]), "padding that"))
        return items, there

    def _same_counts(
        self, part: np.ndarray, ours: np.ndarray, python: np.ndarray, model: str
    ) -> None:
        differs = ours.sum(axis=1) != python.sum(axis=1)
        if differs.any():
            place = int(part[np.argmax(differs)])
            raise ParityError(self._message(f"{model}.{COUNT}", place, "a number that"))

    def _difference(
        self, part: np.ndarray, ours: np.ndarray, python: np.ndarray, what: str
    ) -> float:
        """Return the largest difference of two arrays [users, n], relative above 1."""
        if not ours.size:
            return 0.0
        python = python.astype(np.float64)
        apart = np.abs(ours.astype(np.float64) - python) / np.maximum(np.abs(python), 1.0)
        apart = np.where(np.isnan(apart), np.inf, apart)
        largest = float(apart.max())
        if largest > self._tolerance:
            place = int(part[np.unravel_index(apart.argmax(), apart.shape)[0]])
            raise ParityError(self._message(what, place, f"values that by {largest:.2g}"))
        return largest

    def _message(self, what: str, place: int, found: str) -> str:
        return (
            f"{what} of the exported model has {found} the Python model does not give "
            f"(user {self._ids[place]!r}, tolerance {self._tolerance:g}); nothing was published"
        )


def _sample(system: System, *, users: int, seed: int) -> list[str]:
    """Draw users, some without a history where there are any, and an unknown one at the end."""
    rng = np.random.default_rng(seed)
    offsets = system.histories.offsets
    empty = np.flatnonzero(np.diff(offsets) == 0)
    some = rng.permutation(empty)[: max(users // 8, 1)]
    others = rng.permutation(np.flatnonzero(np.diff(offsets)))[: max(users - len(some), 0)]
    rows = np.concatenate([some, others])
    return [*system.log.user_ids[rows], UNKNOWN_USER]


def _parts(count: int, batch: int) -> list[np.ndarray]:
    alone = [np.array([place]) for place in (*range(min(_ALONE, count - 1)), count - 1)]
    return [*_blocks(np.arange(count), batch), *alone]


def _blocks(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _silent(inputs: Sequence[Input], users: Sequence[str], *, k: int) -> dict[str, np.ndarray]:
    """A request of each user that says nothing but how many items it wants."""
    blanks = {one.name: one.blanks(len(users)) for one in inputs}
    return blanks | {USER_ID: np.array(users, object), K: np.full(len(users), k, np.int32)}


def _told(system: System, users: Sequence[str]) -> dict[str, np.ndarray]:
    """What the tables know of the users' histories, said in a request's own words."""
    length = history_length(system)
    rows = rows_of(system.log.user_ids, users)
    past = system.histories.before(rows, np.full(len(rows), NEVER), length=length)
    # a request cannot say a time before 1970; such a history is left to the tables
    sayable = (past.times > 0) | (past.items < 0)
    there = (past.items >= 0) & sayable.all(axis=1, keepdims=True)
    return {
        HISTORY: np.where(there, system.log.item_ids[np.maximum(past.items, 0)], ""),
        HISTORY_TIME: np.where(there, past.times, 0),
    }


def _ask(signature: Callable[..., Any], inputs: Mapping[str, Any]) -> Outputs:
    _, specs = signature.structured_input_signature  # pyright: ignore[reportFunctionMemberAccess]
    tensors = {name: tf.constant(values, specs[name].dtype) for name, values in inputs.items()}
    return {name: value.numpy() for name, value in signature(**tensors).items()}
