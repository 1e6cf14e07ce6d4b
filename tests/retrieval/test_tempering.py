"""The factor on taste: found where validation is best, kept beside the weights."""

import math

import pytest

from interactions.errors import UserError
from retrieval.tempering import kept_sharpness, settle_sharpness, temper


class Scaled:
    """Stands for a retriever whose validation is best at one factor."""

    def __init__(self, *, best_at):
        self.factor, self.judged, self._best_at = 1.0, 0, best_at

    def sharpen(self, factor):
        self.factor *= factor

    def validate(self, _):
        self.judged += 1
        return -abs(math.log(self.factor / self._best_at))


@pytest.mark.parametrize("best_at", [0.25, 0.5, 1.0, 2.0])
def test_the_best_factor_is_found_and_stays_in_place(best_at):
    retriever = Scaled(best_at=best_at)
    assert temper(retriever, retriever.validate) == pytest.approx(best_at)
    assert retriever.factor == pytest.approx(best_at)


def test_what_gains_nothing_changes_nothing():
    retriever = Scaled(best_at=1.0)
    assert temper(retriever, lambda _: 0.25) == 1.0
    assert retriever.factor == pytest.approx(1.0)


def test_a_kept_factor_is_used_again_without_validation(tmp_path):
    first, again = Scaled(best_at=0.5), Scaled(best_at=0.5)
    settle_sharpness(first, folder=tmp_path, step=7, validate=first.validate)
    settle_sharpness(again, folder=tmp_path, step=7, validate=again.validate)
    assert again.factor == pytest.approx(0.5) == kept_sharpness(tmp_path)
    assert again.judged == 0


def test_other_weights_are_judged_anew(tmp_path):
    first, again = Scaled(best_at=0.5), Scaled(best_at=2.0)
    settle_sharpness(first, folder=tmp_path, step=7, validate=first.validate)
    settle_sharpness(again, folder=tmp_path, step=9, validate=again.validate)
    assert again.factor == pytest.approx(2.0) == kept_sharpness(tmp_path)


def test_a_given_factor_is_taken_and_without_either_it_is_one(tmp_path):
    given, plain = Scaled(best_at=0.5), Scaled(best_at=0.5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    settle_sharpness(given, folder=tmp_path / "a", step=3, validate=None, given=0.7)
    settle_sharpness(plain, folder=tmp_path / "b", step=3, validate=None)
    assert given.factor == pytest.approx(0.7) == kept_sharpness(tmp_path / "a")
    assert plain.factor == 1.0 == kept_sharpness(tmp_path / "b")


@pytest.mark.parametrize("content", ["", "[]", '{"sharpness": "high", "step": 1}'])
def test_a_damaged_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "sharpness.json").write_text(content)
    with pytest.raises(UserError, match=r"sharpness\.json cannot be read; remove .* to train"):
        kept_sharpness(tmp_path)
