"""The learning rate by step."""

import numpy as np
import pytest

from training.config import ScheduleConfig
from training.schedule import WarmupDecay


def rates(steps, *, upto, **given):
    schedule = WarmupDecay(ScheduleConfig(learning_rate=0.5, **given), steps=steps)
    return np.array([float(schedule(step)) for step in range(upto)])


def test_without_warmup_and_decay_it_stays():
    assert (rates(None, upto=30) == 0.5).all()


def test_the_warmup_rises_in_a_straight_line_and_no_step_is_lost():
    found = rates(None, upto=12, warmup_steps=5)
    np.testing.assert_allclose(found[:5], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)
    assert (found[5:] == 0.5).all()


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_decay_falls_from_the_warmups_end_to_the_last_step(decay):
    found = rates(100, upto=130, warmup_steps=20, decay=decay)
    assert found.argmax() in (19, 20) and found.max() == pytest.approx(0.5)
    assert (np.diff(found[20:100]) < 0).all()
    assert found[60] == pytest.approx(0.25)
    assert 0 < found[99] < 0.01
    # and where a training goes on for longer, it does not rise again
    np.testing.assert_allclose(found[100:], 0, atol=1e-7)
    early = {"cosine": 0.5 * (1 + np.cos(np.pi / 4)) / 2, "linear": 0.375}
    assert found[40] == pytest.approx(early[decay])


def test_a_warmup_longer_than_the_training_never_leaves_the_numbers():
    found = rates(5, upto=20, warmup_steps=10, decay="cosine")
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 0.5).all()


def test_a_decay_without_an_end_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        WarmupDecay(ScheduleConfig(decay="cosine"), steps=None)
