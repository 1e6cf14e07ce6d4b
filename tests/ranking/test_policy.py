"""The search of the order's weights, on lists whose best order is known."""

from dataclasses import replace

import numpy as np
import pytest

from interactions.errors import UserError
from ranking.order_objective import OrderObjective
from ranking.policy import Lists, chances, learn_weights, worth_of

QUERIES, WIDTH = 400, 20


def lists(*, seed=0, agrees=0.0, queries=QUERIES, **given):
    """Lists whose chosen item has a high retrieval utility; purchases are another matter.

    With `agrees`, ratings point to the chosen item too.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros((queries, WIDTH), bool)
    chosen[np.arange(queries), rng.integers(0, WIDTH, queries)] = True
    retrieval = rng.normal(size=chosen.shape) + 1.5 * chosen
    buys = rng.normal(size=chosen.shape) - 2.0
    views = 0.8 * retrieval + 0.6 * rng.normal(size=chosen.shape)
    rating = rng.normal(size=chosen.shape) - 0.5 * buys + agrees * chosen
    logits = {"purchase": buys, "view": views}
    utility = {
        "retrieval": retrieval, "rating": rating,
        **{task: -np.logaddexp(0, -values) for task, values in logits.items()},
    }  # fmt: skip
    outcome = {"rating": 3.0 + rating} | {
        task: 1 / (1 + np.exp(-values)) for task, values in logits.items()
    }
    tasks = given.pop("tasks", ("retrieval", "rating", "purchase", "view"))
    return Lists(
        user=np.arange(queries) // 2,
        there=np.ones(chosen.shape, bool),
        chosen=chosen,
        utility={task: utility[task].astype(np.float32) for task in tasks},
        outcome={task: outcome[task] for task in tasks if task != "retrieval"},
        scale={
            task: 1.0 if task == "rating" else None for task in tasks if task != "retrieval"
        },
    )  # fmt: skip


def ndcg_of(of, weights):
    score = sum(weight * of.utility[task] for task, weight in weights.items())
    place = (score > score[of.chosen][:, None]).sum(axis=1)
    return np.where(place < 10, 1 / np.log2(place + 2.0), 0.0).mean()


def expected_ndcg(of, chance, weights):
    """By true chances [Q, C] of being chosen, of ten places."""
    score = sum(weight * of.utility[task] for task, weight in weights.items())
    place = np.argsort(np.argsort(-score, axis=1), axis=1)
    return (chance * np.where(place < 10, 1 / np.log2(place + 2.0), 0.0)).sum(axis=1).mean()


def test_it_takes_the_purchases_that_cost_next_to_no_ndcg():
    learnt = learn_weights(lists(), OrderObjective(), seed=0)
    assert learnt.maximised == ("purchase",)
    assert learnt.chosen.outcome["purchase"] > 1.08 * learnt.retrieval_only.outcome["purchase"]
    assert learnt.lost_ndcg <= 0.01
    assert learnt.chosen.ndcg > 0.95 * learnt.retrieval_only.ndcg


def of_a_shop(*, seed, queries, by_taste):
    """Lists of people who choose by taste among what the shop shows, and buy by need and taste.

    With them what only a test knows: the chances [Q, C] with which people choose among everything.
    """
    rng = np.random.default_rng(seed)
    shape = (queries, 40)
    taste, shown, need = (rng.normal(size=shape) for _ in range(3))
    chosen = np.zeros(shape, bool)
    first = (taste + 1.5 * shown + rng.gumbel(size=shape)).argmax(axis=1)
    chosen[np.arange(queries), first] = True
    logits = {
        "purchase": by_taste * taste + 0.7 * need - 2.0,
        "view": taste + 0.5 * rng.normal(size=shape),
    }
    known = Lists(
        user=np.arange(queries),
        there=np.ones(shape, bool),
        chosen=chosen,
        utility={"retrieval": taste + 1.5 * shown}
        | {task: -np.logaddexp(0, -values) for task, values in logits.items()},
        outcome={task: 1 / (1 + np.exp(-values)) for task, values in logits.items()},
        scale=dict.fromkeys(logits),
        log_shown=(1.5 * shown).astype(np.float32),
    )
    return known, np.exp(taste) / np.exp(taste).sum(axis=1, keepdims=True)


def test_finding_what_the_policy_showed_anyway_holds_no_order_back():
    known, chance = of_a_shop(seed=3, queries=2000, by_taste=0.7)
    known = replace(
        known,
        utility={task: known.utility[task] for task in ("retrieval", "purchase")},
        outcome={"purchase": known.outcome["purchase"]},
    )
    plain = replace(known, log_shown=None)
    found = {
        name: learn_weights(of, OrderObjective(ndcg_cost=0.0), seed=0)
        for name, of in (("alike", plain), ("by worth", known))
    }
    bought = {name: one.chosen.outcome["purchase"] for name, one in found.items()}
    assert bought["by worth"] > 1.2 * bought["alike"]
    true = [
        expected_ndcg(plain, chance, weights)
        for weights in (found["by worth"].chosen.weights, {"retrieval": 1.0})
    ]
    assert true[0] > true[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_does_not_hang_on_the_seed_of_the_search(seed):
    """Some 300 effective hits, and a task that finds more of them than the retrieval task."""
    of, _ = of_a_shop(seed=seed, queries=1000, by_taste=0.0)
    objective = OrderObjective(maximise="purchase")
    bought = [
        learn_weights(of, objective, seed=search).chosen.outcome["purchase"] for search in range(4)
    ]
    assert max(bought) < 1.03 * min(bought)


def test_how_likely_all_alike_were_does_not_matter():
    plain = lists()
    alike = replace(plain, log_shown=np.full(plain.there.shape, -7.0, np.float32))
    found = [
        learn_weights(of, OrderObjective(ndcg_cost=0.01), seed=0).chosen for of in (plain, alike)
    ]
    assert found[1].weights == pytest.approx(found[0].weights)
    assert found[1].ndcg == pytest.approx(found[0].ndcg)


def shown_unevenly(of, *, spread=1.0, seed=5):
    """The same lists, of candidates of which some were likelier to be shown."""
    log_shown = spread * np.random.default_rng(seed).normal(size=of.there.shape) - 5.0
    return replace(of, log_shown=log_shown.astype(np.float32))


@pytest.mark.parametrize("known", [False, True])
def test_it_says_how_finds_were_counted(known):
    of = shown_unevenly(lists()) if known else lists()
    assert learn_weights(of, OrderObjective(), seed=0).by_worth == known


def test_worth_is_one_over_the_chance_of_being_shown():
    of = shown_unevenly(lists(), spread=0.3)
    of.there[:, -5:] = False
    of = replace(of, chosen=of.chosen & of.there)
    worth = worth_of(of)
    product = (worth * np.exp(of.log_shown.astype(np.float64)))[of.there]
    np.testing.assert_allclose(product, product[0], rtol=1e-5)
    assert worth[of.chosen].mean() == pytest.approx(1.0)
    assert not worth[~of.there].any()


def test_no_candidate_decides_alone():
    of = shown_unevenly(lists(), spread=0.3)
    of.log_shown[0, of.chosen[0]] = -60.0
    of.log_shown[1, ~of.chosen[1]] = -60.0
    worth = worth_of(of)
    assert worth.max() < 12 * np.median(worth[of.chosen])


@pytest.mark.parametrize("missing", ["chosen", "there"])
def test_worth_needs_nothing_chosen(missing):
    of = shown_unevenly(lists())
    getattr(of, missing)[:] = False
    of.chosen[:] = False
    assert np.isfinite(worth_of(of)).all()
    learnt = learn_weights(of, OrderObjective(), seed=0)
    assert learnt.hits == 0
    assert np.isfinite(learnt.chosen.expected_ndcg)


def test_expected_ndcg_counts_what_each_candidate_is_worth():
    of = shown_unevenly(lists())
    first = learn_weights(of, OrderObjective(), seed=0).retrieval_only
    logits = of.utility["retrieval"]
    best = np.argsort(-logits, axis=1)[:, :10]
    value = worth_of(of) * chances(logits, of.there, of.chosen)
    expected = np.take_along_axis(value, best, axis=1) @ (1 / np.log2(np.arange(10) + 2))
    assert first.expected_ndcg == pytest.approx(expected.mean(), rel=1e-5)


def test_a_few_heavy_hits_are_few():
    """What is chosen on 20 of 400 lists counts seven times the rest."""
    of = lists()
    of = replace(of, log_shown=np.zeros(of.there.shape, np.float32))
    alike = learn_weights(of, OrderObjective(), seed=0).hits
    of.log_shown[:20] = -2.0
    assert learn_weights(of, OrderObjective(), seed=0).hits < 0.8 * alike


def test_fewer_lists_keep_how_likely_each_candidate_was():
    of = shown_unevenly(lists())
    few = of.thinned(3)
    rows = [np.flatnonzero((of.log_shown == row).all(axis=1))[0] for row in few.log_shown]
    np.testing.assert_array_equal(few.utility["retrieval"], of.utility["retrieval"][rows])


def test_luck_on_few_lists_excuses_no_loss():
    """What is chosen on a few lists is held against many others of the same kind."""
    many, lost = lists(seed=99, queries=4000), []
    for seed in range(6):
        chosen = learn_weights(lists(seed=seed, queries=100), OrderObjective(), seed=seed).chosen
        lost.append(1.0 - ndcg_of(many, chosen.weights) / ndcg_of(many, {"retrieval": 1.0}))
    assert np.mean(lost) < 0.03


@pytest.mark.parametrize("hits", [0, 1, 2, 3, 5])
def test_next_to_no_hits_excuse_no_loss(hits):
    """The chances are known here; few of 60 lists have a chosen item, among the first ten."""
    lost = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        retrieval, buys = 1.5 * rng.normal(size=(60, 100)), rng.normal(size=(60, 100)) - 2.0
        chance = np.exp(retrieval) / np.exp(retrieval).sum(axis=1, keepdims=True)
        chosen = np.zeros(retrieval.shape, bool)
        for query in range(hits):
            first = np.argsort(-retrieval[query])[:10]
            own = chance[query, first] / chance[query, first].sum()
            chosen[query, rng.choice(first, p=own)] = True
        few = Lists(
            user=np.arange(60),
            there=np.ones_like(chosen),
            chosen=chosen,
            utility={"retrieval": retrieval, "purchase": -np.logaddexp(0, -buys)},
            outcome={"purchase": 1 / (1 + np.exp(-buys))},
            scale={"purchase": None},
        )
        learnt = learn_weights(few, OrderObjective(ndcg_cost=0.01), seed=seed)
        before = expected_ndcg(few, chance, {"retrieval": 1.0})
        lost.append(1.0 - expected_ndcg(few, chance, learnt.chosen.weights) / before)
        assert learnt.chosen.outcome["purchase"] > learnt.retrieval_only.outcome["purchase"]
    assert max(lost) < 0.03


def test_hundreds_of_hits_outweigh_what_the_ranker_expects():
    """Ratings point to the chosen item, of which the ranker's own chances know nothing."""
    learnt = learn_weights(lists(agrees=3.0), OrderObjective(ndcg_cost=0.0), seed=0)
    assert learnt.chosen.expected_ndcg < 0.9 * learnt.retrieval_only.expected_ndcg
    assert learnt.chosen.ndcg > 0.97 * max(tried.ndcg for tried in learnt.tried)


def test_chances_are_as_sure_as_the_choices_allow():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 10))
    pick = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    chosen = np.arange(10) == pick[:, None]
    there = np.ones_like(chosen)
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = chances(2.5 * logits, there, chosen)
    np.testing.assert_allclose(found, true, atol=0.05)
    there[0] = False
    there[1, 5:] = False
    found = chances(logits, there, chosen & there)
    assert not found[0].any() and not found[1, 5:].any()
    np.testing.assert_allclose(found[1:].sum(axis=1), 1.0)


def test_who_gives_up_more_ndcg_gets_more_purchases():
    found = [
        learn_weights(lists(), OrderObjective(ndcg_cost=cost), seed=0).chosen
        for cost in (0.0, 0.2, 1.0)
    ]
    assert found[0].outcome["purchase"] < found[1].outcome["purchase"]
    assert found[1].outcome["purchase"] < found[2].outcome["purchase"]
    assert found[0].ndcg > found[1].ndcg > found[2].ndcg
    best = np.sort(lists().outcome["purchase"], axis=1)[:, -10:].mean()
    assert found[2].outcome["purchase"] == pytest.approx(best, rel=0.01)  # purchases alone


def test_a_floor_under_the_rating_holds_and_costs_purchases():
    """Here what is bought is rated low."""
    free = OrderObjective(maximise="purchase", ndcg_cost=0.3)
    floor = learn_weights(lists(), free, seed=0).chosen.outcome["rating"] + 0.2
    bound = free.model_copy(update={"at_least": {"rating": floor}})
    learnt = learn_weights(lists(), bound, seed=0)
    assert learnt.chosen.outcome["rating"] >= floor and not learnt.unmet
    without = learn_weights(lists(), free, seed=0).chosen
    assert learnt.chosen.outcome["purchase"] < without.outcome["purchase"]


def test_a_floor_out_of_reach_is_said_and_approached():
    objective = OrderObjective(at_least={"rating": 99.0}, ndcg_cost=1.0)
    learnt = learn_weights(lists(), objective, seed=0)
    assert "mean rating" in learnt.unmet[0] and "99" in learnt.unmet[0]
    highest = max(tried.outcome["rating"] for tried in learnt.tried)
    assert learnt.chosen.outcome["rating"] == pytest.approx(highest)


def test_what_helps_to_find_the_chosen_item_is_used_and_kept():
    """The reference is the best that can be reached, not the retrieval task's own order."""
    helped = lists(agrees=3.0)
    learnt = learn_weights(helped, OrderObjective(ndcg_cost=0.0), seed=0)
    assert learnt.reference_ndcg > 1.1 * learnt.retrieval_only.ndcg
    assert learnt.chosen.ndcg > 1.1 * learnt.retrieval_only.ndcg


def test_the_best_of_many_useless_orders_is_no_reference():
    """Weights of mere noise look better on the lists that they were picked on."""
    ahead = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        alone = lists(seed=seed, tasks=("retrieval", "rating"), queries=80)
        useless = rng.normal(size=alone.there.shape).astype(np.float32)
        noisy = replace(alone, utility={**alone.utility, "rating": useless})
        learnt = learn_weights(noisy, OrderObjective(), seed=seed)
        known = learnt.retrieval_only.ndcg
        lucky = max(tried.ndcg for tried in learnt.tried)
        ahead.append((learnt.reference_ndcg - known, lucky - known))
    honest, best = np.mean(ahead, axis=0)
    assert best > 0.003
    assert honest < 0.5 * best


def test_without_binary_tasks_the_ratings_are_raised():
    learnt = learn_weights(lists(tasks=("retrieval", "rating")), OrderObjective(), seed=0)
    assert learnt.maximised == ("rating",)
    assert learnt.chosen.outcome["rating"] > learnt.retrieval_only.outcome["rating"]


def test_a_ranker_of_the_retrieval_task_alone_has_one_order():
    learnt = learn_weights(lists(tasks=("retrieval",)), OrderObjective(), seed=0)
    assert learnt.chosen.weights == {"retrieval": 1.0}
    assert len(learnt.tried) == 1


def test_the_same_seed_finds_the_same_weights():
    first, again = (learn_weights(lists(), OrderObjective(), seed=3) for _ in range(2))
    assert first.chosen == again.chosen and first.tried == again.tried


def test_padding_is_in_no_list():
    """With one real item per query there is one order, whatever the weights."""
    some = lists(queries=30)
    there = np.zeros_like(some.there)
    there[:, 0] = True
    alone = replace(some, there=there, chosen=some.chosen & there)
    learnt = learn_weights(alone, OrderObjective(), seed=0)
    for tried in learnt.tried:
        assert tried.outcome["rating"] == pytest.approx(some.outcome["rating"][:, 0].mean())


def test_no_query_leaves_the_retrieval_tasks_order():
    learnt = learn_weights(lists(queries=0), OrderObjective(), seed=0)
    assert learnt.chosen.weights == {"retrieval": 1.0, "rating": 0.0, "purchase": 0.0, "view": 0.0}


@pytest.mark.parametrize("wrong", [{"maximise": "clicks"}, {"at_least": {"clicks": 0.1}}])
def test_an_unknown_task_is_named(wrong):
    with pytest.raises(UserError, match=r"'clicks'.*rating, purchase, view"):
        learn_weights(lists(queries=4), OrderObjective(**wrong), seed=0)


@pytest.mark.parametrize(
    "wrong", [{"ndcg_cost": -0.1}, {"ndcg_cost": 1.5}, {"top": 0}, {"at_least": {"a": np.nan}}]
)
def test_impossible_objectives_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        OrderObjective(**wrong)
