"""Going on from a retriever that knew other ids, in another order."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from features.backend import tf
from features.config import FeaturesConfig
from features.entities import EncodedTable, EntityEncoders
from interactions.config import FeatureConfig
from retrieval.config import RetrievalConfig
from retrieval.continuation import Earlier, continue_from
from retrieval.model import Retriever, RetrieverInputs
from retrieval.training import TrainingData, fit_retriever
from retrieval.trends import Trends
from tests.retrieval.conftest import make_log

ITEMS = 40
NOTHING = EncodedTable((), {})
FEATURES = (
    FeatureConfig(name="brand", kind="categorical"),
    FeatureConfig(name="tags", kind="categories"),
    FeatureConfig(name="title", kind="text"),
    FeatureConfig(name="price", kind="numeric"),
)


def items_table():
    rng = np.random.default_rng(3)
    tags = [
        "|".join(f"t{tag}" for tag in rng.choice(9, rng.integers(0, 5), replace=False))
        for _ in range(ITEMS)
    ]
    return pa.table({
        "item_id": [f"i{n}" for n in range(ITEMS)],
        "brand": [f"b{n % 7}" for n in range(ITEMS)],
        "tags": tags,
        "title": [f"word{n % 5} word{n % 11}" for n in range(ITEMS)],
        "price": [float(n % 7) for n in range(ITEMS)],
    })  # fmt: skip


def inputs_of(log, counts, folder):
    table = items_table()
    items = EntityEncoders.fit_with_ids(
        FEATURES, table, id_name="item_id", counts=counts, config=FeaturesConfig(), folder=folder
    ).encode(table)
    users = pa.table({"user_id": pa.array(log.user_ids, pa.string())})
    people = EntityEncoders.fit_with_ids(
        (), users, id_name="user_id", counts=np.arange(len(log.user_ids)) + counts[0],
        config=FeaturesConfig(), folder=folder / "users",
    ).encode(users)  # fmt: skip
    return RetrieverInputs(
        people, items, (), "user_id", "item_id", Trends.of(log, np.arange(len(log))), log.has_times
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """An earlier retriever that knows the first half of the items, and one that knows all."""
    log = replace(make_log(1), item_ids=items_table()["item_id"].to_numpy().astype(object))
    log = replace(log, item=(log.item % ITEMS).astype(np.int32))
    config = RetrievalConfig(embedding_dim=8, feature_dim=4, hidden_dim=8, use_user_id=True)
    half = np.where(np.arange(ITEMS) < ITEMS // 2, np.arange(ITEMS) + 1, 0)
    # counted the other way round, so that ids are numbered the other way round
    early = inputs_of(log, half, tmp_path_factory.mktemp("early"))
    late = inputs_of(log, 99 - np.arange(ITEMS), tmp_path_factory.mktemp("late"))
    tf.keras.utils.set_random_seed(4)
    earlier = Retriever(early, config)
    for variable in earlier.trainable_variables:
        variable.assign(tf.random.normal(variable.shape))
    earlier = Earlier(earlier, early, NOTHING)
    retriever = Retriever(late, config)
    continue_from(earlier, retriever, inputs=late, context=NOTHING)
    return log, config, earlier, retriever, late


def embedded(retriever, rows):
    tower = retriever.candidate_tower
    features = dict(tower._items(tf.constant(rows, tf.int32)))
    tables = tower.tables()
    return {name: tf.gather(table, features[name]).numpy() for name, table in tables.items()}


def test_known_ids_and_words_mean_what_they_meant(both):
    _, _, earlier, retriever, _ = both
    rows = np.arange(ITEMS // 2)
    was, became = embedded(earlier.retriever, rows), embedded(retriever, rows)
    assert set(was) == {"item_id", "brand", "tags", "title"}
    for name, wanted in was.items():
        width = wanted.shape[1]
        np.testing.assert_array_equal(became[name][:, :width], wanted, err_msg=name)


def test_an_item_it_did_not_know_begins_as_an_unknown_one(both):
    _, _, earlier, retriever, _ = both
    new = embedded(retriever, np.arange(ITEMS // 2, ITEMS))["item_id"]
    unknown = earlier.retriever.candidate_tower.tables()["item_id"][-1]
    np.testing.assert_array_equal(new, np.broadcast_to(unknown, new.shape))


def test_all_other_weights_are_the_same(both):
    _, _, earlier, retriever, _ = both
    tables = {id(table) for _, _, table in retriever.tables()}
    for variable, old in zip(
        retriever.trainable_variables, earlier.retriever.trainable_variables, strict=True
    ):
        if id(variable) not in tables:
            np.testing.assert_array_equal(variable, old)


def test_training_goes_on_from_there(both, tmp_path):
    log, config, earlier, retriever, late = both
    slow = config.model_copy(
        update={"schedule": config.schedule.model_copy(update={"learning_rate": 1e-6})}
    )
    data = TrainingData(log, np.arange(len(log)), NOTHING, repeats=False)
    moved, _ = fit_retriever(
        late, data, config=slow, folder=tmp_path, seed=1, steps=1, earlier=earlier
    )
    rows = tf.range(ITEMS)
    np.testing.assert_allclose(
        moved.candidate_tower(rows), retriever.candidate_tower(rows), atol=1e-4
    )
