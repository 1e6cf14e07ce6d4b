"""What the order of a list is to achieve."""

from __future__ import annotations

from pydantic import Field

from interactions.config import Config

AUTO = "auto"


class OrderObjective(Config):
    """What the order is judged by on validation, where its weights are learned."""

    maximise: str = AUTO
    """The task of which the first places are to hold as much as possible: expected purchases, say,
    or a mean rating. `auto` takes the binary task whose event is rarest: down the funnel from views
    to purchases, the last. Name another where the rarest is not wanted. Without binary tasks it
    takes the regressions, each in standard deviations of its labels. Tasks whose validation labels
    are all alike are passed over."""
    at_least: dict[str, float] = Field(default_factory=dict)
    """By task, a floor under the mean prediction in the first places: a rating, a probability."""
    ndcg_cost: float = Field(default=0.01, ge=0, le=1)
    """Share of the most NDCG of the chosen items within reach, as validation and the ranker's own
    chances together tell, that may be given up for it. What was shown anyway counts less where the
    ranker knows what the log's policy would show (`data.propensity`, `ranking.logging_policy`)."""
    top: int = Field(default=10, ge=1)
    """How many places count."""

    @property
    def named(self) -> frozenset[str]:
        """The tasks that it names."""
        return frozenset({*self.at_least, self.maximise} - {AUTO})
