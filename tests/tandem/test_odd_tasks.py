"""A fit whose tasks have nothing to learn, or less than they say: each has an answer."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

TASKS = {
    "retrieval": {},
    "never_known": {"kind": "binary", "column": "blank"},
    "unknown_number": {"kind": "regression", "column": "blank"},
    "always": {"kind": "binary", "column": "one"},
    "flat": {"kind": "regression", "column": "flat"},
    "rating": {"kind": "regression", "column": "rating", "range": [3, 4]},
    "given_up": {"kind": "binary", "column": "given_up"},
    "came-to-stay": {"kind": "binary", "column": "came_to_stay"},
    "unused": {"weight": 0, "kind": "binary", "column": "bought"},
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory, write_data):
    """The data of the other tests with odd columns and weights, fitted and published."""
    from tandem.config import load_config
    from tandem.fit import fit, load_run
    from tandem.publish import publish_system

    folder = tmp_path_factory.mktemp("odd")
    data = {"events": "events.csv", "weight": "counts"}
    config = write_data(folder / "data", data=data, tasks=TASKS)
    file = folder / "data" / "events.csv"
    header, *rows = file.read_text().splitlines()
    rng = np.random.default_rng(0)
    lines = []
    for number, row in enumerate(rows):
        user, item, time, rating, bought, device = row.split(",")
        rating = "9" if number % 100 == 0 else rating  # outside of its range
        counts = rng.choice(["0", "1", "2.5"])
        # rows are in the order of their times: one task ends before the ranking window begins, the
        # other is all 1 since then
        given_up = bought if number < 200 else ""
        came = bought if number < 200 else "1"
        lines.append(
            f"{user},{item},{time},{rating},{bought},{device},,1,3.5,{given_up},{came},{counts}"
        )
    columns = "blank,one,flat,given_up,came_to_stay,counts"
    file.write_text("\n".join([f"{header},{columns}", *lines, ""]))
    told = io.StringIO()
    console = Console(file=told, width=300)
    run = folder / "run"
    metrics = fit(load_config(config), run=run, console=console)
    bundle = publish_system(
        load_run(run, console=Console(quiet=True)), run=run, metrics=metrics, console=console
    )
    return run, told.getvalue(), bundle


@pytest.fixture(scope="module")
def metrics(odd):
    return json.loads((odd[0] / "metrics.json").read_text())


def test_what_cannot_be_learned_is_said(odd):
    told = odd[1]
    for task in ("never_known", "unknown_number"):
        assert f"task {task!r} has no label on any row" in told
    assert "task 'always': its 792 labels have one class only (1)" in told
    assert "task 'flat': its 792 labels have one value only (3.5)" in told
    assert "dropped 8: events: label of task 'rating' outside [3.0, 4.0], e.g. '9'" in told
    assert "task unused has weight 0: it is neither trained nor predicted" in told


def test_what_the_ranking_window_does_not_teach_is_said(odd):
    told = odd[1]
    assert "task given_up has no label in the ranking window" in told
    assert "task came-to-stay has one value only (1) in the ranking window" in told
    # once is enough for what the whole log has not
    for task in ("never_known", "unknown_number", "always", "flat", "rating"):
        assert f"task {task} has" not in told


def test_every_number_that_is_measured_is_finite(metrics):
    numbers = [entry[part] for entry in metrics.values() for part in ("value", "low", "high")]
    assert all(number is None or math.isfinite(number) for number in numbers)


def test_what_has_no_label_is_not_measured(metrics):
    for task in ("never_known", "unknown_number", "unused"):
        assert not [key for key in metrics if f".{task}." in key]


def test_one_class_is_predicted_and_its_auc_left_empty(metrics):
    assert metrics["ranking.always.log_loss"]["value"] < 0.05
    assert metrics["ranking.always.auc"]["value"] is None


def test_one_value_is_predicted(metrics):
    assert metrics["ranking.flat.rmse"]["value"] < 0.05


def test_labels_outside_of_the_range_are_gone(metrics):
    assert metrics["ranking.rating.rmse"]["value"] < 1.0


def test_a_head_that_nobody_trains_is_not_exported(odd):
    manifest = odd[2].manifest
    assert {"always", "flat", "rating", "never_known"} <= manifest.tasks.keys()
    assert "unused" not in manifest.tasks
    assert "unused" not in manifest.signatures["recommender"]["serving_default"].outputs


def test_fewer_items_than_candidates_are_all_ranked(odd):
    """40 candidates are asked for, 35 are served, and there are 24 items."""
    from features.backend import tf

    model = tf.saved_model.load(str(odd[2].folder / "recommender" / "1"))
    answer = model.signatures["serving_default"](user_id=tf.constant(["u1", "nobody"]))
    for items, scores, count in zip(
        answer["item_id"].numpy(), answer["score"].numpy(), answer["count"].numpy(), strict=True
    ):
        assert 0 < count <= 24
        assert len(set(items[:count])) == count and b"" not in items[:count]
        assert np.isfinite(scores[:count]).all()


def test_weights_of_events_are_kept_with_the_run(odd):
    from interactions import storage

    log = storage.load(odd[0] / "data").log
    assert set(log.weight.tolist()) == {0.0, 1.0, 2.5}


def test_tensorboard_has_the_losses_weights_and_gradient_norms_of_every_task(odd):
    from features.backend import tf

    tags = {
        value.tag
        for path in (odd[0] / "ranker" / "tensorboard").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    for task in TASKS.keys() - {"unused"}:
        for what in (task, f"weight/{task}", f"gradient_norm/{task}"):
            assert f"ranker/round/{what}" in tags, what
    assert not [tag for tag in tags if "unused" in tag]
