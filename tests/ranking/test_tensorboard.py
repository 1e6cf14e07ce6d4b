"""What TensorBoard is shown of the tasks, read from the event files that a training leaves."""

import numpy as np
import pytest

from features.backend import tf
from ranking.objective import Objective

TASKS = ("retrieval", "rating", "purchase")


def shown(folder):
    """By tag, the values in the order of their steps."""
    found = {}
    for path in (folder / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return found


@pytest.mark.parametrize("balance", ["fixed", "uncertainty", "gradnorm", "pcgrad"])
def test_each_tasks_loss_weight_and_gradient_norm_is_shown(world, tmp_path, balance):
    folder = tmp_path / "ranker"
    ranker, _ = world.fit(folder, ranking={"balance": balance}, steps=40)
    found = shown(folder)
    objective = Objective(ranker)
    given = np.array([[objective.weights[task]] for task in TASKS])
    # every 20 steps, and the mean of each of the rounds
    for prefix, count in (("ranker", 2), ("ranker/round", 10)):
        losses, weights, norms = (
            np.array([found[f"{prefix}/{what}{task}"] for task in TASKS])
            for what in ("", "weight/", "gradient_norm/")
        )
        assert losses.shape == weights.shape == norms.shape == (len(TASKS), count)
        assert (losses > 0).all() and (norms > 0).all() and np.isfinite(norms).all()
        total = (losses * weights).sum(axis=0)
        if balance == "fixed":
            np.testing.assert_allclose(weights, np.broadcast_to(given, weights.shape), rtol=1e-6)
        if balance == "gradnorm":
            np.testing.assert_allclose(weights.sum(axis=0), len(TASKS), rtol=1e-3)
            assert np.ptp(weights) > 0.01
        if balance == "uncertainty":  # which adds the log of the noise
            assert np.ptp(weights[0]) + abs(weights[0, 0] - 1.0) > 1e-4
        elif prefix == "ranker":
            np.testing.assert_allclose(found[f"{prefix}/loss"], total, rtol=1e-3)
        if balance == "pcgrad":
            assert (weights >= given - 1e-6).all()
