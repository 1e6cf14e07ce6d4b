"""The signature `recommend` of a trained system: what a request says, and what it may get wrong."""

from dataclasses import replace

import grpc
import numpy as np
import pytest

from export.config import RequestConfig
from export.identifiers import Identifiers
from export.inputs import request_inputs
from export.reading import RequestReader
from export.recommender import Recommender
from export.saved_model import save_model
from export.signatures import Widths, signatures
from export.system import RequestEncoders, queries_now, recommend, rows_of
from features.backend import tf
from features.config import FeaturesConfig
from features.entities import EntityEncoders
from interactions.config import FeatureConfig
from interactions.errors import UserError
from retrieval.repeats import RepeatBonus
from serving.errors import ServingError
from serving.loading import load_model

MAX_K, CANDIDATES = 8, 12
WIDTHS = RequestConfig(exclude=40, allow=6, values=3, pool=10)
CATEGORY = FeatureConfig(name="category", kind="categories", filterable=True)
PRICE = FeatureConfig(name="price", kind="numeric", filterable=True)
USERS = ["user 1 é", "user 7 é", "user 55 é", "nobody"]


@pytest.fixture(scope="module")
def system(trained_system, tmp_path_factory):
    """With two filterable features, and encoders for the device asked from and users' regions."""

    def encoders(name, table):
        feature = FeatureConfig(name=name, kind="categorical")
        return RequestEncoders(
            *(
                EntityEncoders.fit(
                    [feature], table, config=FeaturesConfig(), folder=tmp_path_factory.mktemp(stage)
                )
                for stage in ("retriever", "ranker")
            )
        )

    return replace(
        trained_system,
        filterable=(CATEGORY, PRICE),
        context_encoders=encoders("device", trained_system.log.event_table),
        user_encoders=encoders("region", trained_system.log.user_table),
    )


def saved(system, folder):
    """Save the graph and ask it: ask(users, name=one value per row); what is left out is blank."""
    recommender = Recommender(
        system,
        users=Identifiers(system.log.user_ids, file=folder / "user_ids.txt"),
        items=Identifiers(system.log.item_ids, file=folder / "item_ids.txt"),
    )
    widths = Widths(max_k=MAX_K, candidates=CANDIDATES, request=WIDTHS)
    calls = signatures(recommender, widths=widths)["recommender"]
    save_model(folder / "model", calls, tables=recommender.tables)
    model = tf.saved_model.load(str(folder / "model"))
    inputs = request_inputs(system, widths=WIDTHS)

    def ask(users, **said):
        values = {one.name: one.blanks(len(users)) for one in inputs}
        values["user_id"][:] = users
        values["k"][:] = MAX_K
        for name, rows in said.items():
            for row, value in enumerate(rows):
                wide = values[name].ndim > 1
                values[name][(row, slice(0, len(value))) if wide else row] = value
        tensors = {one.name: tf.constant(values[one.name], one.dtype) for one in inputs}
        return {k: v.numpy() for k, v in model.signatures["recommend"](**tensors).items()}

    ask.model, ask.folder = model, folder / "model"
    return ask


@pytest.fixture(scope="module")
def ask(system, tmp_path_factory):
    return saved(system, tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def silent(ask):
    return ask(USERS)


def lists(found):
    return [
        [name.decode() for name in names[:count]]
        for names, count in zip(found["item_id"], found["count"], strict=True)
    ]


def items_of(system, names):
    return rows_of(system.log.item_ids, names)


def unseen(system, user):
    """Rows of the items that a user has not chosen."""
    row = rows_of(system.log.user_ids, [user])
    chosen = system.histories.seen_at(row, queries_now(row).time).items.tolist()
    return set(range(40)) - set(chosen)


def test_a_request_that_says_nothing_is_answered_as_by_user_id_alone(ask, silent):
    plain = ask.model.signatures["serving_default"](user_id=tf.constant(USERS))
    for name, values in plain.items():
        if name in ("item_id", "count"):
            assert (silent[name] == values.numpy()).all()
        else:
            np.testing.assert_allclose(silent[name], values.numpy(), rtol=1e-4)


def test_k_cuts_each_row_and_nothing_is_refused(ask, silent):
    users = [USERS[0]] * 5
    found = ask(users, k=[0, -4, 3, MAX_K, 10**6])
    assert found["count"].tolist() == [0, 0, 3, MAX_K, MAX_K]
    assert lists(found) == [lists(silent)[0][:k] for k in (0, 0, 3, MAX_K, MAX_K)]
    there = np.arange(MAX_K) < found["count"][:, None]
    assert (found["item_id"][~there] == b"").all()
    assert (found["score"][~there] < -1e38).all()


def test_excluded_items_never_come_back_and_others_take_their_places(ask, silent):
    out = [names[:5] for names in lists(silent)]
    found = ask(USERS, exclude=[[*names, "never seen", "a\nline\rend", ""] for names in out])
    assert (found["count"] == MAX_K).all()
    for names, gone, before in zip(lists(found), out, lists(silent), strict=True):
        assert not set(names) & set(gone)
        assert set(before) - set(gone) <= set(names)


def test_an_exclude_list_of_every_item_leaves_nothing(ask, system, silent):
    found = ask(USERS[:2], exclude=[system.log.item_ids, []])
    assert lists(found) == [[], lists(silent)[1]]


def test_a_server_refuses_a_history_that_is_wider_than_the_model_s(ask, system):
    """Our client sends the latest events of a longer one."""
    served = load_model(ask.folder, name="recommender", version=1)
    plan = served.plan("recommend")
    inputs = {one.name: one.blanks(1) for one in request_inputs(system, widths=WIDTHS)}
    wide = {"history": np.full((1, 10_000), "item-3"), "history_time": np.ones((1, 10_000), int)}
    runner = served.runner(plan, plan.outputs)
    assert runner.run(inputs)["count"] == [0]  # k is 0
    with pytest.raises(ServingError) as refused:
        runner.run(
            inputs | {name: values.astype(inputs[name].dtype) for name, values in wide.items()}
        )
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_allow_list_is_all_that_comes(ask, system, silent):
    known = lists(silent)[0][:2]
    found = ask(
        [USERS[0]] * 4,
        allow=[[*known, "never seen"], ["never seen"], [], [*known, *known]],
        exclude=[[known[0]], [], [], []],
    )
    assert [set(names) for names in lists(found)] == [
        {known[1]}, set(), set(lists(silent)[0]), set(known),
    ]  # fmt: skip
    assert found["count"].tolist() == [1, 0, MAX_K, 2]


def test_narrow_rules_find_what_there_is_in_the_whole_catalogue(ask, system):
    """Items that no list of candidates would have held are found, as rules come before top-k."""
    found = ask(USERS, only_category=[["c2"]] * 4, max_price=[4.0] * 4)
    price = system.log.item_table["price"].to_numpy()
    for user, names in zip(USERS, lists(found), strict=True):
        fitting = {f"item-{n}" for n in unseen(system, user) if n % 4 == 2 and price[n] <= 4.0}
        assert set(names) == fitting or len(names) == MAX_K
        assert set(names) <= fitting


@pytest.mark.parametrize(
    ("said", "nothing"),
    [
        ({"only_category": ["c1"], "never_category": ["c1"]}, True),
        ({"min_price": 5.0, "max_price": 4.0}, True),
        ({"allow": ["item-3", "item-8"], "exclude": ["item-8", "item-3"]}, True),
        ({"only_category": ["no such"]}, True),
        ({"never_category": ["no such", "", "c\n1"]}, False),
        ({"min_price": float("nan"), "max_price": float("inf")}, False),
        ({"min_price": -3.4e38, "max_price": 3.4e38}, False),
        ({"at_most_category": -2, "diversity": float("nan")}, False),
        ({"diversity": -1.0}, False),
    ],
)
def test_contradictions_leave_nothing_and_empty_rules_everything(ask, silent, said, nothing):
    found = ask(USERS[:1], **{name: [value] for name, value in said.items()})
    assert lists(found)[0] == ([] if nothing else lists(silent)[0])
    assert all(np.isfinite(v).all() for v in found.values() if v.dtype == np.float32)


def test_rules_of_one_row_are_nothing_to_its_neighbours(ask, silent):
    gone = lists(silent)[1][:3]
    found = ask(
        USERS, exclude=[[], gone, [], []], only_category=[[], [], ["c1"], []],
        diversity=[0, 0, 0.5, 0], at_most_category=[0, 0, 1, 0],
    )  # fmt: skip
    assert lists(found)[0] == lists(silent)[0]
    assert lists(found)[3] == lists(silent)[3]
    alone = ask([USERS[2]], only_category=[["c1"]], diversity=[0.5], at_most_category=[1])
    assert lists(alone)[0] == lists(found)[2]


def test_a_cap_holds_for_every_value_and_lists_are_as_long_as_it_lets_them(ask, system):
    found = ask(USERS, at_most_category=[1, 2, 3, 0])
    for user, names, most in zip(USERS, lists(found), (1, 2, 3, MAX_K), strict=True):
        groups = np.bincount(items_of(system, names) % 4, minlength=4)
        left = np.bincount(sorted(unseen(system, user)), minlength=40).reshape(10, 4).sum(axis=0)
        assert (groups <= most).all()
        assert len(names) == min(MAX_K, np.minimum(left, most).sum())


def test_all_diversity_puts_what_is_least_alike_after_the_best(ask, system, silent):
    found = ask(USERS, diversity=[1.0] * 4)
    vectors = system.searcher.embeddings[:, :-1]
    for before, after in zip(lists(silent), lists(found), strict=True):
        assert after[0] == before[0]
        first, second = vectors[items_of(system, after[:2])]
        others = vectors[items_of(system, before[1:])]
        assert first @ second <= (others @ first).min() + 1e-6


def test_history_of_the_request_stands_for_that_of_the_table(ask, system, silent):
    row = rows_of(system.log.user_ids, USERS[:1])
    past = system.histories.latest(row, length=9)
    names = [str(system.log.item_ids[item]) for item in past.items]
    (found,) = lists(ask(["nobody"], history=[names], history_time=[past.times.tolist()]))
    assert found != lists(silent)[3]
    assert not set(found) & set(names)
    said = ask(USERS[:1], history=[names], history_time=[past.times.tolist()])
    assert lists(said)[0] == lists(silent)[0]


def test_unknown_items_and_gaps_in_a_history_are_as_if_they_were_not_there(ask):
    names, times = ["item-3", "item-8", "item-5"], [3, 2, 5]
    found = ask(
        ["nobody"] * 2,
        history=[["never seen", names[0], "", *names[1:]], names],
        history_time=[[9, times[0], 9, *times[1:]], times],
    )
    assert lists(found)[0] == lists(found)[1]
    assert ask([USERS[0]], history=[["never seen"]])["count"] == [MAX_K]


def test_the_weights_of_a_request_order_its_list(ask):
    # by the tasks' names in order: purchase, rating, retrieval
    weights = [[1, 0, 0], [np.nan] * 3, [0, 0, 0], [0, np.nan, np.nan]]
    found = ask([USERS[0]] * 4, task_weights=weights)
    np.testing.assert_allclose(found["score"][0], np.log(found["purchase"][0]), rtol=1e-4)
    assert (np.diff(found["purchase"][0]) <= 0).all()
    assert lists(found)[1] == lists(found)[2]
    np.testing.assert_allclose(
        found["task_weights"],
        [[1, 0, 0], [0.7, 0.5, 1], [0.7, 0.5, 1], [0, 0.5, 1]],
        rtol=1e-6,
    )


def test_context_reaches_both_stages(ask):
    found = ask([USERS[0]] * 3, context_device=["phone", "desk", "never seen"])
    assert np.abs(found["retrieval_score"][0] - found["retrieval_score"][1]).max() > 1e-6
    assert np.abs(found["rating"][0] - found["rating"][1]).max() > 1e-6
    assert np.isfinite(found["score"]).all()


def test_features_of_a_user_reach_both_stages(ask):
    found = ask(["nobody"] * 3, user_region=["north", "south", ""])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found["retrieval_score"][one] - found["retrieval_score"][other]).max() > 1e-6
        assert np.abs(found["rating"][one] - found["rating"][other]).max() > 1e-6


def test_saying_what_the_tables_say_of_a_user_changes_nothing(ask, system, silent):
    rows = {user: row for row, user in enumerate(system.log.user_ids)}
    regions = [
        system.log.user_table["region"][rows[user]].as_py() if user in rows else ""
        for user in USERS
    ]
    found = ask(USERS, user_region=regions)
    assert lists(found) == lists(silent)
    np.testing.assert_allclose(found["score"], silent["score"], atol=1e-5)


def test_explanations_come_only_where_they_are_asked_for(ask):
    found = ask(USERS, explain=[True, False, True, True])
    reasons, cosines = found["because_item_id"], found["because_score"]
    assert (reasons[0] != b"").all()
    assert (np.abs(cosines[0]) <= 1 + 1e-5).all()
    assert (reasons[1:] == b"").all()  # nobody asked, or there is no history
    assert (cosines[1:] < -1e38).all()


def test_a_batch_of_nobody_is_answered_with_nothing(ask):
    found = ask([])
    assert found["item_id"].shape == (0, MAX_K)
    assert found["count"].shape == (0,)


def test_the_python_models_agree_with_what_is_excluded(ask, system, silent):
    """Taking the five best away leaves what Python ranks among all items without them."""
    everything = recommend(replace(system, candidates=40), USERS[:1], k=40)
    ranked = [str(system.log.item_ids[item]) for item in everything.item[0] if item >= 0]
    gone = lists(silent)[0][:5]
    allowed = [name for name in ranked if name not in gone]
    found = lists(ask(USERS[:1], exclude=[gone]))[0]
    places = [allowed.index(name) for name in found]
    assert places == sorted(places)


def test_two_features_with_one_input_are_refused(system):
    twice = replace(
        system,
        filterable=(
            FeatureConfig(name="a b", kind="categorical", filterable=True),
            FeatureConfig(name="a_b", kind="categorical", filterable=True),
        ),
    )
    with pytest.raises(UserError, match="only_a_b"):
        request_inputs(twice, widths=WIDTHS)


@pytest.mark.parametrize("kind", ["text", "vector"])
def test_texts_and_vectors_cannot_be_filtered_by(kind):
    with pytest.raises(ValueError, match="cannot be filterable"):
        FeatureConfig(name="title", kind=kind, filterable=True)


def test_what_repeats_comes_first_and_obeys_the_rules_too(system, tmp_path, monkeypatch):
    again = replace(system, repeats=True)
    monkeypatch.setattr(again.searcher.retriever, "repeat_bonus", RepeatBonus(50.0, 5.0))
    ask = saved(again, tmp_path)
    said = [system.log.item_ids[row] for row in (7, 31, 7)]
    few = [*said[:2], *(system.log.item_ids[row] for row in (2, 12, 22, 32))]  # a list shows all
    once, twice, without = (
        ask(["nobody"], history=[names], history_time=[range(len(names))], allow=[few], **rule)
        for names, rule in ((said[:2], {}), (said, {}), (said, {"exclude": [said[:1]]}))
    )

    def first(found, count):
        order = np.argsort(-found["retrieval_score"][0, : found["count"][0]])
        return [lists(found)[0][place] for place in order[:count]]

    assert set(first(once, 2)) == set(said)
    assert first(twice, 2) == [said[0], said[1]]  # the one chosen more often before the other
    assert first(without, 1) == [said[1]]
    assert said[0] not in lists(without)[0]


def test_the_one_question_hears_every_input(system, tmp_path):
    """A wish that it did not hear would be lost."""
    recommender = Recommender(
        system,
        users=Identifiers(system.log.user_ids, file=tmp_path / "user_ids.txt"),
        items=Identifiers(system.log.item_ids, file=tmp_path / "item_ids.txt"),
    )
    reader = RequestReader(recommender, widths=WIDTHS)

    def wishes(**said):
        """Whether anything is heard where only the last place of the last row says it."""
        values = {one.name: one.blanks(3) for one in reader.all}
        values["user_id"][:], values["k"][:] = USERS[0], 5
        for name, value in said.items():
            values[name].reshape(-1)[-1] = value
        return bool(reader.read([tf.constant(values[o.name], o.dtype) for o in reader.all]).wishes)

    assert not wishes()
    assert not wishes(history_time=7)  # a time without its item
    for one in reader.all:
        if one.name in ("user_id", "k", "history_time"):
            continue
        assert wishes(**{one.name: "x" if one.dtype == tf.string else 1}), one.name
        if one.dtype == tf.float32:
            assert not wishes(**{one.name: np.nan}), one.name
