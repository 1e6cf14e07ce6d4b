"""The sampled softmax against the full one, and its correction against simulations."""

import numpy as np
import pytest

from features.backend import tf
from retrieval.loss import softmax_loss
from retrieval.negative_sources import BatchTargets
from retrieval.negatives import Negatives
from retrieval.negatives_config import NegativesConfig
from retrieval.softmax import Shift

ITEMS = 12


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# The whole way: items drawn by the real samplers, through the fused loss, against the full softmax.

WINDOWS, BATCH = 24, 6
FORMS = {
    "in-batch": {"in_batch": True},
    "uniform": {"uniform": 24},
    "popular": {"popular": 24, "uniform": 4},
    "kept": {"in_batch": True, "kept_batches": 1},
    "hard": {"in_batch": True, "hard": 4},
    "mixture": {"in_batch": True, "uniform": 8, "popular": 8, "kept_batches": 1, "hard": 2},
    "full": {"full_up_to": 40},
}


class World:
    """Windows with one query for each target; the score of an item depends on the window."""

    items = 40

    def __init__(self):
        rng = np.random.default_rng(0)
        weight = 1.0 / np.arange(1, self.items + 1)
        self.targets = np.array(
            [rng.choice(self.items, 5, replace=False, p=weight / weight.sum()) for _ in range(24)]
        )
        # every item is a target somewhere
        self.targets[:8] = rng.permutation(self.items).reshape(8, 5)
        self.scores = rng.normal(size=(WINDOWS, self.items)).astype(np.float32)
        self.hard = np.argsort(np.where(self.own(), -np.inf, self.scores), axis=1)[:, ::-1].astype(
            np.int32
        )

    def own(self):
        own = np.zeros((WINDOWS, self.items), bool)
        np.put_along_axis(own, self.targets, True, axis=1)
        return own

    def full_gradient(self, *, removed):
        """[windows, items], averaged over a window's queries."""
        own = self.own()
        gradient = np.zeros((WINDOWS, self.items))
        for place in range(self.targets.shape[1]):
            positive = np.eye(self.items, dtype=bool)[self.targets[:, place]]
            out = own & ~positive if removed else np.zeros_like(own)
            gradient += softmax(np.where(out, -np.inf, self.scores)) - positive
        return gradient / self.targets.shape[1]

    def sampled_gradient(self, config, *, removed=True, corrected=True, classical=False):
        """The same on average over many batches of the samplers that `config` asks for."""
        config = {"full_up_to": 0, "in_batch": False, "uniform": 0} | config
        config = NegativesConfig(**config)
        total, times = np.zeros((WINDOWS, self.items)), np.zeros((WINDOWS, 1))
        for epoch in range(80):
            rng = np.random.default_rng([1, epoch])
            negatives = Negatives.of(
                config,
                catalogue=np.arange(self.items, dtype=np.int32),
                windows_with_item=np.bincount(self.targets.ravel(), minlength=self.items),
                windows=WINDOWS,
                batch_windows=BATCH,
                seed=0,
            )
            if negatives.wants_hard:
                negatives.mine(self.hard[:, : config.hard])
            for index in rng.permutation(WINDOWS).reshape(-1, BATCH):
                batch = BatchTargets(
                    self.targets[index].ravel().astype(np.int32),
                    np.repeat(np.arange(BATCH, dtype=np.int32), 5),
                    index,
                )
                drawn = negatives.draw(batch, rng, remove=self.targets[index] if removed else None)
                correction = drawn.correction
                if not corrected:
                    correction = np.where(correction < -1e8, correction, 0.0)
                row = np.zeros_like(batch.window) if drawn.row is None else drawn.row
                own = drawn.positive_correction if classical else np.zeros(len(row))
                gradient = gradient_of_window(
                    self.scores[index],
                    batch.window,
                    drawn.items,
                    drawn.positive,
                    correction.astype(np.float32),
                    row,
                    own.astype(np.float32),
                )
                total[index] += gradient.numpy() * BATCH
                times[index] += 1
        return total / times


FLOATS, INTS = tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)


@tf.function(input_signature=[FLOATS, INTS, INTS, INTS, FLOATS, INTS, tf.TensorSpec([None])])
def gradient_of_window(scores, window, items, positive, correction, row, positive_correction):
    """Gradient [W, items] by the windows' scores, which are the queries; items are unit vectors."""
    candidates = tf.one_hot(items, tf.shape(scores)[1])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = softmax_loss(
            tf.matmul(tf.one_hot(window, tf.shape(scores)[0]), scores),
            candidates,
            positive=positive,
            bias=Shift(tf.zeros([1, tf.size(items)])),
            correction=Shift(correction, row),
            positive_correction=positive_correction,
        )
    return tape.gradient(loss, scores)


def distance(one, other):
    """L1 distance, averaged over the windows; a gradient is up to 2 long."""
    return np.abs(one - other).sum(axis=1).mean()


@pytest.mark.parametrize("form", FORMS)
def test_on_average_the_sampled_gradient_is_that_of_the_full_softmax(form):
    """Closer than in the classical form, and much closer than without a correction."""
    world, config = World(), FORMS[form]
    full = world.full_gradient(removed=True)
    revised = distance(world.sampled_gradient(config), full)
    if form == "full":
        assert revised < 1e-5
        return
    # the quotient of two nearly unbiased sums is a little off, most with the fewest negatives
    assert revised < 0.16
    assert revised < distance(world.sampled_gradient(config, classical=True), full)
    plain = distance(world.sampled_gradient(config, corrected=False), full)
    # uniform negatives only lack a constant
    assert revised < (1.0 if form == "uniform" else 0.5) * plain


def test_a_windows_own_items_may_stay_negatives():
    """They are there for certain, which the correction knows."""
    world = World()
    found = world.sampled_gradient(FORMS["mixture"], removed=False)
    assert distance(found, world.full_gradient(removed=False)) < 0.06
    assert distance(found, world.full_gradient(removed=True)) > 0.1


def test_its_gradient_is_that_of_the_paper():
    """arXiv 2507.09331: the chance to be wrong, times the positive against its negatives."""
    rng = np.random.default_rng(5)
    scores, correction = rng.normal(size=(1, ITEMS)), rng.random((1, ITEMS)) * 3
    with tf.GradientTape() as tape:
        queries = tf.constant(scores, tf.float32)
        tape.watch(queries)
        loss = softmax_loss(
            queries,
            tf.eye(ITEMS),
            positive=tf.constant([4]),
            bias=Shift(tf.zeros([1, ITEMS])),
            correction=Shift(tf.constant(correction, tf.float32)),
        )
    exp = np.exp(scores[0] + correction[0])
    exp[4] = 0.0
    wrong = exp.sum() / (exp.sum() + np.exp(scores[0, 4]))
    wanted = -wrong * (np.eye(ITEMS)[4] - exp / exp.sum())
    np.testing.assert_allclose(tape.gradient(loss, queries)[0], wanted, atol=1e-6)


def test_an_accidental_hit_has_no_chance():
    """However strongly the chosen item would count as a negative, it does not."""
    scores = tf.constant(np.random.default_rng(6).normal(size=(2, ITEMS)), tf.float32)
    losses = []
    for hit in (0.0, 20.0):
        correction = np.zeros((1, ITEMS), np.float32)
        correction[0, 7] = hit
        losses.append(
            softmax_loss(
                scores,
                tf.eye(ITEMS),
                positive=tf.constant([7, 7]),
                bias=Shift(tf.zeros([1, ITEMS])),
                correction=Shift(tf.constant(correction)),
            ).numpy()
        )
    chances = softmax(scores.numpy())[:, 7]
    np.testing.assert_allclose(losses, -np.log(chances).mean(), rtol=1e-5)
