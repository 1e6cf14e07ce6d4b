"""Ours as contenders: what a single-task ranker is given, and what it learns."""

import numpy as np
import pytest

from benchmarks.ranking import ours
from interactions.split import RETRIEVAL
from ranking.inputs import RETRIEVAL as CHOICE


class Given(Exception):
    """What `fit_ranker` was called with, in the place of a training."""


def test_a_single_task_is_learned_alone_with_what_all_labels_say(tiny, monkeypatch):
    def fit(inputs, training, **rest):
        raise Given(inputs, training, rest["validation"])

    monkeypatch.setattr(ours, "fit_ranker", fit)
    tasks = tiny.data.config.trained_tasks
    with pytest.raises(Given) as caught:
        ours._train(
            tiny,
            {CHOICE: tasks[CHOICE], "rating": tasks["rating"]},
            tiny.data.config.ranking,
            seed=0,
        )
    inputs, training, validation = caught.value.args
    assert set(inputs.tasks) == {CHOICE, "rating"}
    assert set(training.exposures.labels) == set(validation.exposures.labels) == {"rating"}
    assert not np.isnan(training.exposures.labels["rating"]).any()
    # as the joint ranker has it
    assert {"rating", "purchase", "view"} <= inputs.label_mean.keys()
    every = tiny.data.past(RETRIEVAL)
    assert training.past.factorised == every.factorised
    items = np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(training.past.item(items), every.item(items))


@pytest.mark.slow
def test_single_tasks_answer_for_every_task(tiny):
    found = ours.SINGLE_TASK.fit(tiny, 0, True).answer(tiny.test)
    assert set(found.tasks) == set(found.served) == {"rating", "purchase", "view"}
    assert all(np.isfinite(values).all() for values in found.tasks.values())
