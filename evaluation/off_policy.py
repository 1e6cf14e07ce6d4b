"""What a new policy would have earned, estimated from what the logging policy showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import Estimate, mean_interval, paired_ratio
from interactions.errors import UserError

FEW = 100.0
"""Below this effective number of rows, an estimate rests on a handful of exposures."""


@dataclass(frozen=True)
class Logged:
    """Exposures drawn by a policy of known probabilities, and what came of them."""

    reward: np.ndarray
    """[n] float: what the exposure earned, such as 1 for a purchase."""
    propensity: np.ndarray
    """[n] float in (0, 1]: the probability with which the logging policy showed this item."""
    target: np.ndarray
    """[n] float in [0, 1]: the probability with which the judged policy shows it there."""

    def __post_init__(self) -> None:
        """Refuse what no estimate can be made of; raises UserError."""
        if not len(self.reward) == len(self.propensity) == len(self.target):
            raise ValueError("reward, propensity and target differ in length; give one per row")
        for name, least in (("propensity", np.nextafter(0, 1)), ("target", 0.0)):
            values = np.asarray(getattr(self, name), np.float64)
            wrong = ~((values >= least) & (values <= 1.0))
            if wrong.any():
                raise UserError(
                    f"{name}: found {values[wrong][0]}, but it is a probability"
                    f"{' above 0' if least else ''}; leave rows without one out"
                )
        if np.isnan(np.asarray(self.reward, np.float64)).any():
            raise UserError("reward: found NaN; leave exposures without a label out")

    @property
    def weight(self) -> np.ndarray:
        """[n] float64: how many exposures of the judged policy each logged one stands for."""
        return np.asarray(self.target, np.float64) / np.asarray(self.propensity, np.float64)


@dataclass(frozen=True)
class RewardModel:
    """What a model expects, which a doubly robust estimate starts from."""

    logged: np.ndarray
    """[n] float: the reward expected of the item that was shown."""
    judged: np.ndarray
    """[n] float: the reward expected where the judged policy had shown its own."""


@dataclass(frozen=True)
class OffPolicy:
    """Mean reward of the judged policy per exposure, by three estimators."""

    inverse_propensity: Estimate
    self_normalised: Estimate
    doubly_robust: Estimate | None
    """None without a model of the reward."""
    effective_rows: float
    """(sum of weights)^2 / sum of squared weights (Kish 1965): how many rows the weights leave."""
    largest_weight: float
    mean_weight: Estimate
    """About 1 where the judged policy shows only what could have been logged; an interval below 1
    says that a part of what it shows was never logged, and earns nothing in the first estimate."""

    @property
    def is_thin(self) -> bool:
        """Whether so few rows carry the estimate that its interval may be too short."""
        return self.effective_rows < FEW


def judge_policy(
    logged: Logged,
    *,
    model: RewardModel | None = None,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> OffPolicy:
    """Estimate what a policy earns per exposure, with 95 % intervals that resample `clusters`.

    Inverse propensity (Horvitz and Thompson 1952) is unbiased where every item that the policy may
    show could have been logged; dividing by the sum of the weights (self-normalised: Swaminathan
    and Joachims 2015) trades a little bias for less variance; the doubly robust form (Dudík,
    Langford and Li 2011) is unbiased if either the propensities or the model are right.

    Args:
        logged: [n] exposures with labels.
        model: what a model of the reward expects of them.
        clusters: [n], the user of each exposure; each its own where left out.
        seed: of the resamples.
        resamples: how many.
    """
    options = {"clusters": clusters, "seed": seed, "resamples": resamples}
    weight = logged.weight
    total, squares = float(weight.sum()), float(np.square(weight).sum())
    return OffPolicy(
        inverse_propensity=mean_interval(inverse_propensity_values(logged), **options),
        self_normalised=paired_ratio(inverse_propensity_values(logged), weight, **options),
        doubly_robust=None
        if model is None
        else mean_interval(doubly_robust_values(logged, model), **options),
        effective_rows=total**2 / squares if squares else 0.0,
        largest_weight=float(weight.max(initial=0.0)),
        mean_weight=mean_interval(weight, **options),
    )


def inverse_propensity_values(logged: Logged) -> np.ndarray:
    """Return what each row adds to the mean of the inverse-propensity estimate, [n] float64."""
    return logged.weight * logged.reward


def doubly_robust_values(logged: Logged, model: RewardModel) -> np.ndarray:
    """Return what each row adds to the mean of the doubly robust estimate, [n] float64.

    Two policies on the same rows are compared by `paired_difference` of their values.
    """
    return np.asarray(model.judged, np.float64) + logged.weight * (logged.reward - model.logged)


def uniform_over_top(ranked: np.ndarray, shown: np.ndarray, *, k: int) -> np.ndarray:
    """Return the probability of `shown` [n] under the policy that draws one of the first k alike.

    `ranked` [n, K] int item rows, best first, -1 where there are none; `shown` [n] int. The mean
    reward of this policy times k is what a page of the k items earns, place effects aside.
    """
    top = ranked[:, :k]
    size = np.maximum((top >= 0).sum(axis=1), 1)
    return ((top == shown[:, np.newaxis]) & (top >= 0)).any(axis=1) / size
