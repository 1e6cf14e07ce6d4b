"""A run is not resumed with something else than it was started with."""

import pytest

from interactions.errors import UserError
from training.config import ScheduleConfig
from training.fingerprint import flatten, hold_to


def test_configs_are_flattened_to_their_keys():
    flat = flatten({"stage": {"schedule": ScheduleConfig(patience=3), "dims": (1, 2)}, "seed": 4})
    assert flat["stage.schedule.patience"] == 3
    assert flat["seed"] == 4 and list(flat["stage.dims"]) == [1, 2]


def test_the_same_values_are_let_through(tmp_path):
    given = {"a.b": 0.1, "dims": (1, 2), "none": None, "map": {}}
    hold_to(given, folder=tmp_path, started=False)
    hold_to(given, folder=tmp_path, started=True)


def test_what_changed_is_named_with_both_values_and_the_remedy(tmp_path):
    old = {"stage.rate": 0.1, "stage.dims": (1, 2), "kept": 5, "gone": 1}
    hold_to(old, folder=tmp_path, started=False)
    new = {"stage.rate": 0.2, "stage.dims": (1, 3), "kept": 5, "come": "x"}
    with pytest.raises(UserError) as error:
        hold_to(new, folder=tmp_path, started=True)
    message = str(error.value)
    for part in (
        "stage.rate was 0.1 and is now 0.2",
        "stage.dims was [1, 2] and is now [1, 3]",
        "gone was 1 and is now absent",
        'come was absent and is now "x"',
        f"remove {tmp_path}",
    ):
        assert part in message
    assert "kept" not in message and "\n" not in message


def test_many_changes_stay_one_line(tmp_path):
    hold_to({f"k{n}": 1 for n in range(30)}, folder=tmp_path, started=False)
    with pytest.raises(UserError, match="25 more") as error:
        hold_to({f"k{n}": 2 for n in range(30)}, folder=tmp_path, started=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_a_damaged_record_is_one_clear_line(tmp_path, content):
    hold_to({"a": 1}, folder=tmp_path, started=False)
    path = tmp_path / "fingerprint.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match="remove"):
        hold_to({"a": 1}, folder=tmp_path, started=True)
