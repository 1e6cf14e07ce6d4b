import numpy as np
import pytest

from features.backend import tf
from interactions.errors import UserError
from retrieval import index_choice
from retrieval.index import ExactIndex, Without
from retrieval.index_choice import choose_index

pytest.importorskip("scann")

ITEMS, DIM, QUERIES, K = 3000, 9, 24, 20


def vectors(number, seed):
    """Points in forty clusters, the last entry a bias; the clusters are the same for all seeds."""
    centres = np.random.default_rng(0).normal(size=(40, DIM - 1))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 40, number)] + 0.4 * rng.normal(size=(number, DIM - 1))
    bias = 0.1 * rng.normal(size=(number, 1))
    return np.concatenate([points, bias], axis=1).astype(np.float32)


EMBEDDINGS, ASKED = vectors(ITEMS, 1), vectors(QUERIES, 2)
ASKED[:, -1] = 1.0


def without(items):
    """Rule out some items of each query."""
    return Without(
        tf.RaggedTensor.from_row_lengths(
            tf.constant([one for row in items for one in row], tf.int32), [len(r) for r in items]
        )
    )


def choose(asked="scann", *, offered=None, recall=0.99, queries=ASKED):
    offered = np.ones(ITEMS, bool) if offered is None else offered
    exact = ExactIndex(EMBEDDINGS, offered=offered)
    return choose_index(
        exact, EMBEDDINGS, offered=offered, queries=queries, asked=asked, recall=recall, k=K
    )


@pytest.fixture(scope="module")
def partitions():
    from retrieval.scann_index import Partitions

    return Partitions(EMBEDDINGS, np.ones(ITEMS, bool), leaves=32)


@pytest.fixture
def index(partitions):
    from retrieval.scann_index import ScannIndex, ScannSettings

    return ScannIndex(ExactIndex(EMBEDDINGS), partitions, ScannSettings(32, 12, 60))


def true_top(queries, out):
    scores = queries @ EMBEDDINGS.T
    for row, items in enumerate(out):
        scores[row, items] = -np.inf
    return np.argsort(-scores, axis=1)[:, :K]


def test_nearly_all_of_the_top_is_found_with_true_scores(index):
    assert not index.is_exact()
    found = index.search(tf.constant(ASKED), k=K)
    best = true_top(ASKED, [[]] * QUERIES)
    shared = [len(set(a) & set(b)) / K for a, b in zip(found.item.numpy(), best, strict=True)]
    assert np.mean(shared) > 0.95
    scores = np.take_along_axis(ASKED @ EMBEDDINGS.T, found.item.numpy(), 1)
    np.testing.assert_allclose(found.score, scores, atol=1e-3)
    assert (np.diff(found.score.numpy(), axis=1) <= 0).all()


def test_what_is_ruled_out_never_comes_and_a_narrow_rule_still_finds_k(index):
    best = true_top(ASKED, [[]] * QUERIES)
    # the second query loses the few items of its top, the third all but twenty items
    kept = np.arange(0, ITEMS, ITEMS // K)[:K]
    out = [[] for _ in range(QUERIES)]
    out[1] = best[1, :5].tolist()
    out[2] = np.setdiff1d(np.arange(ITEMS), kept).tolist()
    found = index.search(tf.constant(ASKED), k=K, rules=without(out)).item.numpy()
    assert not set(out[1]) & set(found[1])
    assert set(found[2]) == set(kept)
    assert (found[[1, 2]] >= 0).all()


def test_an_answer_does_not_depend_on_its_neighbours(index):
    out = [[] for _ in range(QUERIES)]
    out[2] = list(range(ITEMS - 5))
    together = index.search(tf.constant(ASKED), k=K, rules=without(out)).item.numpy()
    for row in range(4):
        alone = index.search(tf.constant(ASKED[[row]]), k=K, rules=without([out[row]]))
        np.testing.assert_array_equal(alone.item.numpy()[0], together[row])
    assert (together[2] >= 0).sum() == 5


def test_it_is_saved_and_answers_alike_from_the_saved_model(index, tmp_path):
    from export.saved_model import save_model

    spec = tf.TensorSpec([None, DIM], tf.float32, name="query")
    search = tf.function(lambda query: index.search(query, k=K)._asdict(), input_signature=[spec])
    save_model(tmp_path / "model", {"serving_default": search}, tables=[])
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for rows in (1, QUERIES, 0):
        query = tf.constant(ASKED[:rows])
        np.testing.assert_array_equal(
            loaded(query=query)["item"].numpy(), search(query)["item"].numpy()
        )


def test_two_catalogues_in_one_process_are_kept_apart(index):
    from retrieval.scann_index import Partitions, ScannIndex

    other = Partitions(-EMBEDDINGS, np.ones(ITEMS, bool), leaves=32)
    second = ScannIndex(ExactIndex(-EMBEDDINGS), other, index.settings)
    first_item = index.search(tf.constant(ASKED), k=1).item.numpy()
    opposite = second.search(tf.constant(-ASKED), k=1).item.numpy()
    assert (first_item == opposite).mean() > 0.9
    assert (second.search(tf.constant(ASKED), k=1).item.numpy() != first_item).all()


def test_settings_are_chosen_by_measurement():
    offered = np.ones(ITEMS, bool)
    offered[::3] = False
    choice = choose(offered=offered, recall=0.9)
    assert choice.kind == "scann"
    assert choice.chosen is not None
    assert choice.chosen.recall >= 0.9
    assert choice.chosen in choice.curve
    assert [m.milliseconds for m in choice.curve] == sorted(m.milliseconds for m in choice.curve)
    # those that lie above it beyond doubt
    good = [m for m in choice.curve if m.recall >= 0.99]
    assert choice.chosen.milliseconds <= min((m.milliseconds for m in good), default=np.inf)
    found = choice.index.search(tf.constant(ASKED), k=K).item.numpy()
    assert (found % 3 != 0).all()


@pytest.mark.parametrize("asked", ["auto", "exact"])
def test_a_small_catalogue_is_searched_exactly_and_says_why(asked):
    choice = choose(asked)
    assert choice.kind == "exact"
    assert choice.reason


def test_auto_takes_scann_for_a_large_catalogue_where_it_can(monkeypatch):
    monkeypatch.setattr(index_choice, "AUTO_FROM", ITEMS)
    assert "ScaNN" in choose("auto", queries=ASKED[:1]).reason
    found = choose("auto", recall=0.5)
    assert found.curve
    # a recall of more than everything is never reached
    refused = choose("auto", recall=1.1)
    assert (refused.kind, refused.chosen) == ("exact", None)
    assert "1.1" in refused.reason


def test_scann_that_cannot_be_had_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"export\.index_recall"):
        choose(recall=1.1)
    monkeypatch.setattr(index_choice, "FEWEST", ITEMS + 1)
    with pytest.raises(UserError, match="too few"):
        choose()
    monkeypatch.setattr(index_choice, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tandem\[scann\]'"):
        choose()


@pytest.fixture
def far():
    """Queries far from all items, for which a search looks into many leaves."""
    queries = 0.3 * np.random.default_rng(5).normal(size=ASKED.shape).astype(np.float32)
    queries[:, -1] = 1.0
    return queries


def tuned(queries, *, recall=0.95):
    from retrieval.scann_tuning import tune

    exact, offered = ExactIndex(EMBEDDINGS), np.ones(ITEMS, bool)
    return tune(exact, EMBEDDINGS, offered=offered, queries=queries, recall=recall, k=K)


def in_turns(first, second):
    return np.stack([first, second], axis=1).reshape(-1, DIM)


def test_settings_must_hold_for_users_that_had_no_part_in_choosing_them(monkeypatch, far):
    from retrieval import scann_tuning

    # without a margin, which would do for the others too
    monkeypatch.setattr(scann_tuning, "_ERRORS", 0)
    # on a busy machine any good settings may be the fastest; those with the fewest leaves are to be
    monkeypatch.setattr(
        scann_tuning._Bench, "milliseconds", lambda bench, search, leaves: float(leaves)
    )

    def searched(queries):
        choice = tuned(queries)
        assert choice.chosen is not None
        found = choice.index.search(tf.constant(far), k=K).score.numpy()
        true = ExactIndex(EMBEDDINGS).search(tf.constant(far), k=K).score.numpy()
        return float((found >= true[:, -1:] - 1e-4).mean())

    # the far ones are asked second: what does for the first finds little
    assert searched(in_turns(ASKED, far)) >= 0.95 > searched(ASKED)


def test_more_leaves_are_tried_where_only_the_second_half_of_the_users_lacks_something(far):
    one = np.repeat(ASKED[:1], QUERIES, axis=0)
    assert tuned(in_turns(one, far)).chosen is not None
