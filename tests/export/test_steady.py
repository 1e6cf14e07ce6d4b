"""Requests of any shape run the graph that is there: nothing is traced anew, nothing piles up."""

import numpy as np
import psutil
import pytest

from benchmarks.export import steady
from export.config import RequestConfig
from export.identifiers import Identifiers
from export.recommender import Recommender
from export.signatures import Widths, signatures
from features.backend import tf
from serving.loading import load_model


@pytest.fixture(scope="module")
def calls(trained_system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    recommender = Recommender(
        trained_system,
        users=Identifiers(trained_system.log.user_ids, file=folder / "user_ids.txt"),
        items=Identifiers(trained_system.log.item_ids, file=folder / "item_ids.txt"),
    )
    widths = Widths(max_k=8, candidates=12, request=RequestConfig(exclude=4, allow=2, values=2))
    return signatures(recommender, widths=widths)


def blank(spec, rows, columns):
    wide = spec.shape.as_list()[1:]
    shape = [rows, *(size or columns for size in wide)]
    return tf.fill(shape, "") if spec.dtype == tf.string else tf.zeros(shape, spec.dtype)


def test_no_shape_of_request_is_traced_anew(calls):
    for model, by_name in calls.items():
        for name, call in by_name.items():
            for rows, columns in ((1, 1), (3, 7), (8, 2), (0, 1), (5, 12)):
                call(*[blank(spec, rows, columns) for spec in call.input_signature])
            assert call.experimental_get_tracing_count() == 1, (model, name)


@pytest.mark.slow
def test_memory_does_not_grow_with_requests_of_mixed_shapes(exported_bundle, monkeypatch):
    monkeypatch.setattr(steady, "known_users", lambda count: [f"user {n} é" for n in range(50)])
    monkeypatch.setattr(steady, "KNOWN", 40)
    varied = {"diversity": 0.5}
    monkeypatch.setattr(
        steady,
        "with_rules",
        lambda inputs: inputs | {n: np.full_like(inputs[n], v) for n, v in varied.items()},
    )
    path = exported_bundle.model("recommender")
    model = load_model(path, name="recommender", version=1)
    rng, process = np.random.default_rng(3), psutil.Process()

    def ask(times):
        asked = 0
        while asked < times:
            name, signature, inputs = steady.asked_at_random(exported_bundle, rng)
            if name != "recommender":
                continue
            plan = model.plan(signature)
            assert plan is not None
            model.runner(plan, plan.outputs).run(
                {key: np.asarray(values, object if key == "user_id" else None)
                 for key, values in inputs.items()}
            )  # fmt: skip
            asked += 1
        return process.memory_info().rss / 2**20

    settled = ask(150)
    assert ask(450) < settled + 20
