import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from interactions.config import DataConfig, TaskConfig
from interactions.errors import UserError
from interactions.marketplace import PRESETS, Marketplace, MarketplaceConfig, generate
from interactions.marketplace.policy import Bought, Shelf, fill_pages
from interactions.marketplace.world import DEVICES, START, examination

GOLDEN = Path(__file__).parents[1] / "golden" / "marketplace.json"
DAY = 86_400_000
SMALL = MarketplaceConfig(users=40, items=30, events=2_000, days=60, seed=7)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The log's columns, with users and items as rows, and one number per session and item."""

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    type: np.ndarray
    session_id: np.ndarray
    position: np.ndarray
    propensity: np.ndarray
    device: np.ndarray
    rating: np.ndarray

    @property
    def key(self):
        return (self.session_id << 32) + self.item

    def of(self, type_):
        rows = self.type == type_
        return Columns(**{name: column[rows] for name, column in vars(self).items()})


def columns(market):
    table = {name: market.events[name].to_numpy() for name in market.events.column_names}
    return Columns(
        user=market.oracle.user_rows(table.pop("user_id")),
        item=market.oracle.item_rows(table.pop("item_id")),
        **table,
    )


@pytest.fixture(scope="module")
def demo():
    return generate(PRESETS["demo"])


@pytest.fixture(scope="module")
def log(demo):
    return columns(demo)


def cause(effect, causes):
    """Return for each row of `effect` the row of `causes` of the same session and item."""
    order = np.argsort(causes.key)
    found = order[np.searchsorted(causes.key[order], effect.key)]
    assert (causes.key[found] == effect.key).all()
    return found


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_frozen(preset):
    golden = json.loads(GOLDEN.read_text())
    assert generate(PRESETS[preset]).fingerprint() == golden[preset]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_another_log(tmp_path):
    def written(config, folder):
        generate(config).write(folder)
        return {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()
        }

    first = written(SMALL, tmp_path / "a")
    assert set(first) == {"events.parquet", "items.parquet", "users.parquet", "world.npz"}
    assert written(SMALL, tmp_path / "b") == first
    other = written(dataclasses.replace(SMALL, seed=8), tmp_path / "c")
    assert all(other[name] != first[name] for name in first)


def test_a_marketplace_reads_back_with_its_oracle(tmp_path):
    market = generate(SMALL)
    market.write(tmp_path)
    back = Marketplace.read(tmp_path)
    assert back.config == market.config
    assert back.fingerprint() == market.fingerprint()
    users = np.arange(SMALL.users)
    assert np.array_equal(
        back.oracle.purchase_probability(users, None, START + 30 * DAY),
        market.oracle.purchase_probability(users, None, START + 30 * DAY),
    )


def test_the_demo_has_about_the_size_asked_for(demo, log):
    assert demo.events.num_rows == pytest.approx(300_000, rel=0.05)
    counts = {type_: len(log.of(type_).user) for type_ in ("view", "purchase", "rating")}
    assert 50_000 < counts["view"] < 75_000
    assert 14_000 < counts["purchase"] < 23_000
    assert 8_000 < counts["rating"] < 13_000
    views = log.of("view")
    assert np.median(np.bincount(views.user, minlength=5_000)) >= 8
    assert np.mean(np.bincount(views.item, minlength=2_000) >= 15) > 0.6


@pytest.mark.parametrize(
    "config",
    [
        MarketplaceConfig(users=1, items=2, events=1, days=7),
        MarketplaceConfig(users=2, items=3, events=3_000, days=20),
        MarketplaceConfig(users=300, items=50, events=20, days=30),
        MarketplaceConfig(users=3, items=900, events=500, categories=45, segments=2),
    ],
)
def test_any_size_can_be_made(config):
    market = generate(config)
    assert market.users.num_rows == config.users
    assert market.items.num_rows == config.items
    assert market.events.num_rows > 0


def test_titles_have_three_to_six_words(demo):
    lengths = {len(title.split()) for title in demo.items["title"].to_pylist()}
    assert lengths <= {3, 4, 5, 6}
    assert len(lengths) > 2


def test_titles_tell_something_of_the_taste(demo):
    taste = demo.world.item_taste
    words = [set(title.split()) for title in demo.items["title"].to_pylist()]
    rng = np.random.default_rng(0)
    left, right = rng.integers(len(words), size=(2, 40_000))
    shared = np.array([bool(words[a] & words[b]) for a, b in zip(left, right, strict=True)])
    alike = np.sum(taste[left] * taste[right], axis=1)
    other = left != right
    assert alike[shared & other].mean() > alike[~shared].mean() + 0.1


def test_events_are_in_time_order_within_the_year(log):
    assert (np.diff(log.timestamp) >= 0).all()
    assert log.timestamp.min() >= START
    assert log.timestamp.max() < START + 365 * DAY


def test_every_event_has_its_cause_before_it(log):
    shown, viewed, sold = (log.of(type_) for type_ in ("impression", "view", "purchase"))
    rated = log.of("rating")
    for effect, causes in ((viewed, shown), (sold, viewed), (rated, sold)):
        row = cause(effect, causes)
        assert (causes.timestamp[row] < effect.timestamp).all()
        assert (causes.user[row] == effect.user).all()


def test_some_purchases_come_days_after_the_view(log):
    sold, viewed = log.of("purchase"), log.of("view")
    wait = sold.timestamp - viewed.timestamp[cause(sold, viewed)]
    assert 0.2 < np.mean(wait > DAY / 24) < 0.4
    assert np.mean(wait > DAY) > 0.1


def test_columns_are_filled_only_where_they_mean_something(log):
    shown = log.type == "impression"
    assert np.array_equal(~np.isnan(log.position), shown)
    assert np.array_equal(~np.isnan(log.propensity), shown)
    assert np.array_equal(~np.isnan(log.rating), log.type == "rating")
    told = np.array([device in DEVICES for device in log.device])
    assert np.array_equal(told, shown | (log.type == "view"))
    assert set(np.unique(log.rating[log.type == "rating"])) == {1, 2, 3, 4, 5}


def test_no_item_is_shown_before_its_launch_and_new_ones_arrive(demo, log):
    launched = demo.items["launched"].to_numpy()
    assert (log.timestamp >= launched[log.item]).all()
    late = launched > START + 180 * DAY
    assert late.sum() > 100
    assert np.isin(np.flatnonzero(late), log.item).mean() > 0.8


def test_nobody_buys_or_is_shown_what_they_bought(log):
    sold, shown = log.of("purchase"), log.of("impression")
    pair = sold.user * 10_000 + sold.item
    assert len(np.unique(pair)) == len(pair)
    bought_at = dict(zip(pair.tolist(), sold.timestamp.tolist(), strict=True))
    for pair, time in zip(
        (shown.user * 10_000 + shown.item).tolist(), shown.timestamp.tolist(), strict=True
    ):
        assert time < bought_at.get(pair, time + 1)


def test_a_page_shows_each_item_once_at_consecutive_positions(log):
    shown = log.of("impression")
    assert len(np.unique(shown.key)) == len(shown.key)
    longest = np.zeros(shown.session_id.max() + 1)
    np.maximum.at(longest, shown.session_id, shown.position)
    sizes = np.bincount(shown.session_id)
    assert np.array_equal(longest + 1, sizes)
    assert set(sizes) <= {6, 8, 10}


@pytest.mark.parametrize("position", [0, 3])
def test_inverse_propensities_count_the_items_that_could_be_shown(demo, log, position):
    """E[1 / propensity] at a position is the number of items the policy could put there."""
    shown = log.of("impression")
    assert ((shown.propensity > 0) & (shown.propensity <= 1)).all()
    at = shown.position == position
    week = START + (shown.timestamp[at] - START) // (7 * DAY) * 7 * DAY
    launched = np.searchsorted(np.sort(demo.world.item_launched), week, side="right")
    possible = (launched - position).mean()  # what a user has bought is a handful at most
    assert np.mean(1 / shown.propensity[at]) == pytest.approx(possible, rel=0.08)


def test_inverse_propensities_weigh_a_group_of_items_by_its_size(demo, log):
    shown = log.of("impression")
    first = shown.position == 0
    dear = demo.world.item_dearness > np.median(demo.world.item_dearness)
    old = demo.world.item_launched < START
    group = dear & old
    counted = np.mean(group[shown.item[first]] / shown.propensity[first])
    assert counted == pytest.approx(group.sum(), rel=0.1)


def test_slots_are_drawn_with_the_logged_probability():
    weight = np.array([[0.5, 0.3, 0.15, 0.05, 0.0]])
    pages = 40_000
    bought = Bought(key=np.empty(0, np.int64), time=np.empty(0, np.int64), items=5)
    # Everyone has bought item 1 before the page; item 3 will be bought only after it.
    everyone = np.arange(pages)
    bought = bought.add(everyone, np.full(pages, 1), np.full(pages, 10))
    bought = bought.add(everyone, np.full(pages, 3), np.full(pages, 99))
    filled = fill_pages(
        Shelf(weight=weight, reach=np.cumsum(weight), launched=4),
        segment=np.zeros(pages, np.int64),
        user=everyone,
        time=np.full(pages, 50),
        slots=np.full(pages, 2),
        bought=bought,
        rng=np.random.default_rng(3),
    )
    truth = {(0, 2): 5 / 7 * 15 / 20, (0, 3): 5 / 7 * 5 / 20, (2, 0): 15 / 70 * 50 / 55}
    for page, probability in truth.items():
        rows = (filled.item == page).all(axis=1)
        assert rows.mean() == pytest.approx(probability, abs=0.01)
        assert np.allclose(filled.propensity[rows].prod(axis=1), probability)
    assert not np.isin(filled.item, [1, 4]).any()


def assert_calibrated(predicted, observed, *, groups=10, tolerance=4.0):
    """In each tenth by prediction, the mean observed lies within `tolerance` standard errors."""
    order = np.argsort(predicted, kind="stable")
    for rows in np.array_split(order, groups):
        error = np.std(observed[rows]) / np.sqrt(len(rows)) + 1e-4
        assert abs(observed[rows].mean() - predicted[rows].mean()) < tolerance * error


def test_the_oracle_predicts_views(demo, log):
    shown, viewed = log.of("impression"), log.of("view")
    device = np.array([DEVICES.index(name) for name in shown.device])
    looks = examination(shown.position.astype(int), device)
    predicted = looks * demo.oracle.view_probability(shown.user, shown.item, shown.timestamp)
    assert_calibrated(predicted, np.isin(shown.key, viewed.key).astype(float))


def test_the_oracle_predicts_purchases(demo, log):
    shown, sold = log.of("impression"), log.of("purchase")
    device = np.array([DEVICES.index(name) for name in shown.device])
    looks = examination(shown.position.astype(int), device)
    predicted = looks * demo.oracle.purchase_probability(shown.user, shown.item, shown.timestamp)
    label = np.isin(shown.key, sold.key).astype(float)
    # Purchases still to come at the end of the year are not in the log, and what has been decided
    # on is not decided on again.
    decided = {}
    origin = np.flatnonzero(label)
    for row in origin.tolist():
        decided.setdefault((shown.user[row], shown.item[row]), shown.timestamp[row])
    again = np.array(
        [
            decided.get((user, item), time) < time
            for user, item, time in zip(shown.user, shown.item, shown.timestamp, strict=True)
        ]
    )
    known = (shown.timestamp < START + 335 * DAY) & ~again
    assert_calibrated(predicted[known], label[known])


def test_the_oracle_predicts_ratings(demo, log):
    rated = log.of("rating")
    assert_calibrated(demo.oracle.expected_rating(rated.user, rated.item), rated.rating)


def test_buying_and_being_satisfied_partly_conflict(demo, log):
    users, now = np.arange(400), START + 300 * DAY
    buys = demo.oracle.purchase_probability(users, None, now)
    likes = demo.oracle.expected_rating(users, None)
    launched = demo.world.item_launched < now
    assert np.corrcoef(buys.mean(axis=0)[launched], likes.mean(axis=0)[launched])[0, 1] < 0.3
    by_purchase = demo.oracle.oracle_ranking(users, now, k=20)
    by_rating = np.argsort(-np.where(launched, likes, 0), axis=1)[:, :20]
    common = [len(set(a) & set(b)) for a, b in zip(by_purchase, by_rating, strict=True)]
    assert np.mean(common) < 4
    sold, rated = log.of("purchase"), log.of("rating")
    sales = np.bincount(sold.item, minlength=2_000)
    best = np.argsort(-sales)[:200]
    assert rated.rating[np.isin(rated.item, best)].mean() < likes.mean() + 0.2


def test_popularity_drifts(demo, log):
    viewed = log.of("view")
    old = np.flatnonzero(demo.world.item_launched < START - 90 * DAY)

    def views(first_day, last_day):
        rows = (viewed.timestamp >= START + first_day * DAY) & (
            viewed.timestamp < START + last_day * DAY
        )
        return np.bincount(viewed.item[rows], minlength=2_000)[old]

    near = np.corrcoef(views(0, 60), views(60, 120))[0, 1]
    far = np.corrcoef(views(0, 60), views(305, 365))[0, 1]
    assert far < near - 0.05


def test_positions_further_down_are_viewed_less(log):
    shown, viewed = log.of("impression"), log.of("view")
    desktop = shown.device == "desktop"
    seen = np.isin(shown.key, viewed.key)
    rate = [seen[desktop & (shown.position == position)].mean() for position in range(10)]
    # The policy puts what is likely liked first, which is no more than a part of the fall.
    assert rate[9] < 0.75 * rate[0]


def test_oracle_answers_pairs_lists_and_everything_alike(demo):
    oracle = demo.oracle
    users = np.array([3, 1, 4, 1])
    times = START + DAY * np.array([10, 100, 200, 300])
    items = np.array([[5, 9], [2, 6], [5, 3], [5, 8]])
    whole = oracle.purchase_probability(users, None, times)
    assert whole.shape == (4, 2_000)
    lists = oracle.purchase_probability(users, items, times)
    assert np.allclose(lists, np.take_along_axis(whole, items, axis=1))
    assert np.allclose(oracle.purchase_probability(users, items[:, 0], times), lists[:, 0])
    ratings = oracle.expected_rating(users, None)
    assert ratings.min() >= 1
    assert ratings.max() <= 5
    assert np.allclose(oracle.expected_rating(users, items[:, 1]), ratings[range(4), items[:, 1]])


def test_no_ranking_beats_the_oracle_and_padding_counts_nothing(demo):
    oracle, users, now = demo.oracle, np.arange(50), START + 200 * DAY
    best = oracle.oracle_ranking(users, now, k=10)
    value = oracle.expected_purchases(best, users, now)
    rng = np.random.default_rng(0)
    for _ in range(5):
        others = np.array([rng.permutation(2_000)[:10] for _ in users])
        assert (oracle.expected_purchases(others, users, now) <= value).all()
    few = np.zeros((50, 2_000), bool)
    few[:, [0, 1]] = True  # launched before the log begins
    ranked = oracle.oracle_ranking(users, now, k=10, allowed=few)
    assert (np.sort(ranked[:, :2]) == [0, 1]).all()
    assert (ranked[:, 2:] == -1).all()
    assert np.allclose(
        oracle.expected_purchases(ranked, users, now),
        oracle.expected_purchases(ranked[:, :2], users, now),
    )


def test_unlaunched_items_are_never_viewed(demo):
    late = np.flatnonzero(demo.world.item_launched > START + 100 * DAY)
    seen = demo.oracle.view_probability(np.arange(5), None, START + 100 * DAY)
    assert (seen[:, late] == 0).all()
    assert (np.delete(seen, late, axis=1) > 0).all()


def test_the_oracle_finds_rows_by_id_and_refuses_unknown_ids(demo):
    assert demo.oracle.user_rows(np.array(["u00007", "u00000"])).tolist() == [7, 0]
    assert demo.oracle.item_rows(demo.items["item_id"].to_numpy()).tolist() == list(range(2_000))
    with pytest.raises(UserError, match=r"item 'i99999' is not in this marketplace"):
        demo.oracle.item_rows(np.array(["i00001", "i99999"]))


def test_the_configuration_fits_the_schema_and_the_tables(demo):
    data = DataConfig(**demo.data_config("somewhere"))
    assert data.events == "somewhere/events.parquet"
    for features, table in (
        (data.item_features, demo.items),
        (data.user_features, demo.users),
        (data.event_features, demo.events),
    ):
        assert {feature.source for feature in features} <= set(table.column_names)
    tasks = {name: TaskConfig(**task) for name, task in demo.tasks_config().items()}
    assert {name: task.kind for name, task in tasks.items()} == {
        "retrieval": "retrieval",
        "rating": "regression",
        "purchase": "binary",
        "view": "binary",
    }


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="marketplace items = 1: give a whole number of at least 2"):
        MarketplaceConfig(items=1)
    with pytest.raises(UserError, match=r"marketplace users = 2\.5"):
        MarketplaceConfig(users=2.5)  # type: ignore[arg-type]


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read a marketplace from .*; generate it again"):
        Marketplace.read(tmp_path)
    generate(SMALL).write(tmp_path)
    world = tmp_path / "world.npz"
    world.write_bytes(world.read_bytes()[:500])
    with pytest.raises(UserError, match="cannot read a marketplace"):
        Marketplace.read(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the marketplace into .*file"):
        generate(SMALL).write(tmp_path / "file" / "inside")


@pytest.mark.slow
def test_the_demo_is_no_easy_world():
    accept = pytest.importorskip("benchmarks.marketplace.accept", reason="needs scikit-learn")
    share = accept.accept(PRESETS["demo"], most_queries=150)
    assert share["popularity"] <= 0.6
    assert share["trees"] <= 0.9
