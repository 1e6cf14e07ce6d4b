"""What validation settles: found where it is best, kept beside the weights."""

import math

import pytest

from interactions.errors import UserError
from retrieval.repeats import RepeatBonus
from retrieval.settling import Settled, kept, settle, settle_once


class Scored:
    """Stands for a retriever whose validation is best at one factor and one bonus."""

    def __init__(self, *, best_at, once=0.0, again=0.0):
        self.factor, self.bonus, self.judged = 1.0, RepeatBonus(), 0
        self._best = (best_at, once, again)

    def sharpen(self, factor):
        self.factor *= factor

    def reward_repeats(self, bonus):
        self.bonus = bonus

    def validate(self, _):
        self.judged += 1
        factor, once, again = self._best
        off = abs(self.bonus.once - once) + abs(self.bonus.again - again)
        return -abs(math.log(self.factor / factor)) - off


@pytest.mark.parametrize("best_at", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("once", "again"), [(0.0, 0.0), (1.5, 0.0), (0.5, 2.0)])
def test_the_best_values_are_found_and_stay_in_place(best_at, once, again):
    retriever = Scored(best_at=best_at, once=once, again=again)
    settled = settle(retriever, retriever.validate, repeats=True)
    assert settled.sharpness == pytest.approx(best_at) == retriever.factor
    assert (settled.repeat_once, settled.repeat_again) == (once, again) == retriever.bonus


def test_what_is_never_chosen_again_has_no_bonus():
    retriever = Scored(best_at=1.0, once=1.0)
    assert settle(retriever, retriever.validate, repeats=False) == Settled()
    assert retriever.bonus == RepeatBonus()


def test_what_gains_nothing_changes_nothing():
    retriever = Scored(best_at=1.0)
    assert settle(retriever, lambda _: 0.25, repeats=True) == Settled()
    assert retriever.factor == pytest.approx(1.0)
    assert retriever.bonus == RepeatBonus()


def once(retriever, folder, *, step=7, validate=True, given=None):
    check = retriever.validate if validate else None
    settle_once(retriever, folder=folder, step=step, validate=check, repeats=True, given=given)


def test_what_is_kept_is_used_again_without_validation(tmp_path):
    first, again = (Scored(best_at=0.5, once=1.0) for _ in range(2))
    once(first, tmp_path)
    once(again, tmp_path)
    assert again.factor == pytest.approx(0.5) == kept(tmp_path).sharpness
    assert again.bonus == (1.0, 0.0) == first.bonus
    assert again.judged == 0


def test_other_weights_are_judged_anew(tmp_path):
    once(Scored(best_at=0.5), tmp_path)
    again = Scored(best_at=2.0)
    once(again, tmp_path, step=9)
    assert again.factor == pytest.approx(2.0) == kept(tmp_path).sharpness


def test_what_is_given_is_taken_and_without_either_nothing_changes(tmp_path):
    given, plain = Scored(best_at=0.5), Scored(best_at=0.5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    once(given, tmp_path / "a", validate=False, given=Settled(0.7, 1.5, 0.5))
    once(plain, tmp_path / "b", validate=False)
    assert given.factor == pytest.approx(0.7)
    assert given.bonus == (1.5, 0.5)
    assert kept(tmp_path / "a") == Settled(0.7, 1.5, 0.5)
    assert plain.factor == 1.0
    assert kept(tmp_path / "b") == Settled()


def test_what_is_given_counts_before_what_was_kept(tmp_path):
    once(Scored(best_at=0.5), tmp_path)
    again = Scored(best_at=0.5)
    once(again, tmp_path, given=Settled(0.7))
    assert again.factor == pytest.approx(0.7) == kept(tmp_path).sharpness


def test_a_retriever_beside_which_nothing_is_kept_is_not_served(tmp_path):
    with pytest.raises(UserError, match=r"settled\.json is not there: .*; train into another"):
        kept(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"sharpness": "high", "step": 1}', '{"x": 1}'])
def test_a_damaged_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "settled.json").write_text(content)
    with pytest.raises(UserError, match=r"settled\.json cannot be read; remove .* to train"):
        kept(tmp_path)
