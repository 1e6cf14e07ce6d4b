"""The served graph's sentence against a slow one in NumPy, on random catalogues and requests.

Retrieve within the rules, rank, choose item by item: the slow version says it for one row at a
time, one item after the other.
"""

from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.answering import Answering
from export.attributes import Attributes, NoneOf, OneOf, Within
from export.config import RequestConfig
from export.filterable import CategoryColumn, FilterableColumns, NumberColumn
from export.reading import Asked, Variety
from export.recommender import Candidates, Predicted, Query, Ranked, Sought
from export.rules import Allowed, Excluded, Together
from export.user_state import Past
from features.backend import tf
from retrieval.index import ExactIndex, Without

DIM = 4
COLOURS = ("red", "green", "blue", "grey \n é")
SIZES = ("s", "m", "l")


@dataclass
class Wish:
    """One row of a batch."""

    k: int = 3
    seen: list = field(default_factory=list)
    exclude: list = field(default_factory=list)
    allow: list | None = None
    only: dict = field(default_factory=dict)
    never: dict = field(default_factory=dict)
    least: float = -np.inf
    most: float = np.inf
    at_most: dict = field(default_factory=dict)
    strength: float = 0.0
    history: list = field(default_factory=list)


class Catalogue:
    """Random items whose scores in both stages are given, in place of trained models."""

    def __init__(self, rng, *, items, candidates):
        self.rng, self.items, self.candidates = rng, items, candidates
        vectors = rng.standard_normal((items, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = vectors
        self.score = rng.standard_normal(items).astype(np.float32)
        self.values = {
            "colour": [
                list(rng.choice(COLOURS, rng.integers(0, 3), replace=False)) for _ in vectors
            ],
            "size": [[str(rng.choice(SIZES))] for _ in vectors],
        }
        price = np.where(rng.random(items) < 0.2, np.nan, rng.integers(0, 10, items))
        self.price = price.astype(np.float32)
        embeddings = np.concatenate([vectors, np.zeros((items, 1), np.float32)], axis=1)
        self.index = ExactIndex(embeddings)
        padded = self.index.padded
        self.columns = FilterableColumns(
            {
                name: CategoryColumn(values, padded=padded, name=name)
                for name, values in self.values.items()
            },
            {"price": NumberColumn(self.price, padded=padded, name="price")},
        )

    # what Answering asks of a recommender

    def seek(self, query):
        vectors = query.retriever_context["vector"]
        return Sought(vectors, self.index.look(vectors))

    def unseen(self, query):
        return Without(query.ranker_context["unseen"])

    def retrieve(self, query, sought, rules, *, k):
        found = self.index.find(sought.looked, k=k, rules=rules)
        return Candidates(found.item, tf.where(found.item >= 0, found.score, 0.0))

    def predict(self, query, found):
        score = {"retrieval": tf.gather(tf.constant(self.score), tf.maximum(found.item, 0))}
        return Predicted(found, score, score)

    def order(self, predicted, weights=None):
        found, score = predicted.candidates, predicted.raw["retrieval"]
        return Ranked(found.item, score, found.score, predicted.shown)

    def own_weights(self):
        return tf.ones([1])

    def item_vectors(self, rows):
        return self.index.gather(tf.maximum(rows, 0))[:, :, :-1]

    # and what the slow version asks

    def passes(self, item, wish):
        def has(name, wanted):
            return any(value in wanted for value in self.values[name][item])

        bounded = np.isfinite(wish.least) or np.isfinite(wish.most)
        return not (
            item in wish.seen
            or item in wish.exclude
            or (wish.allow is not None and item not in wish.allow)
            or any(wanted and not has(name, wanted) for name, wanted in wish.only.items())
            or any(has(name, wanted) for name, wanted in wish.never.items())
            or (bounded and not wish.least <= self.price[item] <= wish.most)
        )

    def cosine(self, one, other):
        a, b = self.vectors[one].astype(float), self.vectors[other].astype(float)
        return a @ b / np.sqrt((a @ a) * (b @ b))


def slow_list(catalogue, vector, wish, *, pool, max_k):
    """One user's list, in the words of the documentation."""
    k, chosen = min(wish.k, max_k), []
    nearness = catalogue.vectors.astype(float) @ vector.astype(float)

    def used_up(item):
        return any(
            0 < limit <= sum(value in catalogue.values[name][other] for other in chosen)
            for name, limit in wish.at_most.items()
            for value in catalogue.values[name][item]
        )

    while len(chosen) < k:
        left = [
            item
            for item in range(catalogue.items)
            if catalogue.passes(item, wish) and item not in chosen and not used_up(item)
        ]
        retrieved = sorted(left, key=lambda item: (-nearness[item], item))[: catalogue.candidates]
        ranked = sorted(retrieved, key=lambda item: (-catalogue.score[item], item))
        ranked = ranked[: max(pool, max_k)]
        if not ranked:
            break
        scores = [float(catalogue.score[item]) for item in ranked]
        low, spread = min(scores), max(scores) - min(scores)

        def gain(item, low=low, spread=spread):
            relevance = (float(catalogue.score[item]) - low) / spread if spread else 0.0
            near = max((catalogue.cosine(item, other) for other in chosen), default=-1.0)
            return (1 - wish.strength) * relevance - wish.strength * near

        while len(chosen) < k:
            open_ = [item for item in ranked if item not in chosen and not used_up(item)]
            if not open_:
                break
            chosen.append(max(open_, key=gain))
    return chosen


def batch_of(catalogue, vectors, wishes):
    def rows(lists, width):
        return tf.constant([(one + [-1] * width)[:width] for one in lists], tf.int32)

    def texts(which, name):
        return tf.constant([(getattr(w, which).get(name, []) + [""] * 4)[:4] for w in wishes])

    size = len(wishes)
    past = [wish.history for wish in wishes]
    rules = []
    for name, column in catalogue.columns.categories.items():
        rules += [OneOf(column, texts("only", name)), NoneOf(column, texts("never", name))]
    number = catalogue.columns.numbers["price"]
    rules.append(
        Within(
            number,
            tf.constant([w.least for w in wishes], tf.float32),
            tf.constant([w.most for w in wishes], tf.float32),
        )
    )
    width = catalogue.items + 1
    unseen = tf.ragged.constant([w.seen for w in wishes], tf.int32, ragged_rank=1)
    return Asked(
        wishes=tf.constant(True),
        query=Query(
            users=tf.fill([size], -1),
            time=tf.zeros([size], tf.int64),
            past=Past(
                rows(past, width),
                tf.zeros([size, width], tf.int64),
                tf.constant([len(one) for one in past]),
            ),
            retriever_context={"vector": tf.constant(vectors)},
            ranker_context={"unseen": unseen},
        ),
        rules=lambda: Together(
            (
                Without(unseen),
                Excluded(rows([w.exclude for w in wishes], width)),
                Allowed(
                    rows([w.allow or [] for w in wishes], width),
                    tf.constant([w.allow is not None for w in wishes]),
                ),
                Attributes(tuple(rules)),
            )
        ),
        variety=lambda: Variety(
            tf.constant([w.strength for w in wishes], tf.float32),
            {
                name: tf.constant([w.at_most.get(name, 0) for w in wishes])
                for name in catalogue.columns.categories
            },
        ),
        weights=lambda: tf.ones([size, 1]),
        k=tf.constant([w.k for w in wishes]),
        explain=tf.constant([bool(w.history) for w in wishes]),
    )


def random_wish(rng, items):
    def some(share):
        return [int(item) for item in np.flatnonzero(rng.random(items) < share)]

    def maybe(chance, value, otherwise):
        return value if rng.random() < chance else otherwise

    return Wish(
        k=int(rng.integers(0, 9)),
        seen=maybe(0.5, some(0.2), []),
        exclude=maybe(0.5, some(0.3), []),
        allow=maybe(0.3, some(0.5), None),
        only={
            "colour": maybe(0.4, list(rng.choice([*COLOURS, "no such"], 2, replace=False)), []),
            "size": maybe(0.2, [str(rng.choice(SIZES))], []),
        },
        never={"colour": maybe(0.3, [str(rng.choice(COLOURS))], [])},
        least=maybe(0.3, float(rng.integers(0, 6)), -np.inf),
        most=maybe(0.3, float(rng.integers(3, 12)), np.inf),
        at_most={
            "colour": maybe(0.3, int(rng.integers(1, 3)), 0),
            "size": maybe(0.3, int(rng.integers(1, 3)), 0),
        },
        strength=maybe(0.5, float(np.round(rng.random(), 2)), 0.0),
        history=maybe(0.3, some(0.1), []),
    )


def answered(catalogue, vectors, wishes, *, pool=1, max_k=6):
    answering = Answering(
        catalogue,
        candidates=catalogue.candidates,
        max_k=max_k,
        widths=RequestConfig(pool=pool),
    )
    return answering.answer(batch_of(catalogue, vectors, wishes))


def lists_of(items):
    return [[int(item) for item in row if item >= 0] for row in items.numpy()]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 70),
    candidates=st.integers(6, 40),
    batch=st.integers(1, 4),
    pool=st.integers(1, 20),
)
def test_lists_are_those_of_the_slow_sentence(seed, items, candidates, batch, pool):
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(rng, items=items, candidates=candidates)
    vectors = rng.standard_normal((batch, DIM + 1)).astype(np.float32)
    vectors[:, DIM] = 1.0
    wishes = [random_wish(rng, items) for _ in range(batch)]
    found = lists_of(answered(catalogue, vectors, wishes, pool=pool).best.item)
    for row, wish, vector in zip(found, wishes, vectors[:, :DIM], strict=True):
        width = min(6, candidates, items)
        assert row == slow_list(catalogue, vector, wish, pool=pool, max_k=width)
        assert all(catalogue.passes(item, wish) for item in row)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(2, 5))
def test_a_row_is_answered_as_if_it_were_alone(seed, batch):
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(rng, items=50, candidates=12)
    vectors = rng.standard_normal((batch, DIM + 1)).astype(np.float32)
    wishes = [random_wish(rng, 50) for _ in range(batch)]
    together = lists_of(answered(catalogue, vectors, wishes).best.item)
    for place, wish in enumerate(wishes):
        alone = answered(catalogue, vectors[place : place + 1], [wish])
        assert lists_of(alone.best.item) == [together[place]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_filter_says_the_same_of_all_items_and_of_some(seed):
    """An index that cannot mask all scores asks of each item that it has found."""
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(rng, items=40, candidates=12)
    wishes = [random_wish(rng, 40) for _ in range(3)]
    rules = batch_of(catalogue, np.zeros((3, DIM + 1), np.float32), wishes).rules()
    masked = rules.mask(tf.zeros([3, catalogue.index.padded])).numpy()[:, :40] == 0
    everything = tf.tile(tf.range(40)[tf.newaxis], [3, 1])
    np.testing.assert_array_equal(rules.passes(everything), masked)
    expected = [[catalogue.passes(item, wish) for item in range(40)] for wish in wishes]
    np.testing.assert_array_equal(masked, expected)


def test_explanations_name_the_closest_item_of_the_history():
    rng = np.random.default_rng(3)
    catalogue = Catalogue(rng, items=30, candidates=20)
    vectors = rng.standard_normal((2, DIM + 1)).astype(np.float32)
    wishes = [Wish(k=5, history=[4, 9, 11]), Wish(k=5)]
    best, because, _ = answered(catalogue, vectors, wishes)
    for item, reason, cosine in zip(
        best.item[0].numpy(), because.item[0].numpy(), because.score[0].numpy(), strict=True
    ):
        if item < 0:
            continue
        near = {past: catalogue.cosine(item, past) for past in (4, 9, 11)}
        assert reason == max(near, key=lambda past: near[past])
        assert cosine == pytest.approx(near[reason], abs=1e-5)
    assert (because.item[1].numpy() == -1).all()


def test_a_cap_that_the_first_candidates_exhaust_is_filled_from_the_rest():
    """Twelve candidates of one colour, and at most one of each: the others are further down."""
    rng = np.random.default_rng(0)
    catalogue = Catalogue(rng, items=40, candidates=12)
    vector = np.zeros((1, DIM + 1), np.float32)
    vector[:, 0] = 1.0
    order = np.argsort(-catalogue.vectors[:, 0])
    numbers = count()
    values = {item: ["red"] if place < 30 else [f"other {next(numbers)}"]
              for place, item in enumerate(order)}  # fmt: skip
    catalogue.values["colour"] = [values[item] for item in range(40)]
    catalogue.columns.categories["colour"] = CategoryColumn(
        catalogue.values["colour"], padded=catalogue.index.padded, name="colour"
    )
    (found,) = lists_of(answered(catalogue, vector, [Wish(k=6, at_most={"colour": 1})]).best.item)
    colours = [catalogue.values["colour"][item][0] for item in found]
    assert len(colours) == len(set(colours)) == 6
    assert colours[0] == "red"
