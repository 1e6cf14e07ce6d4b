"""What a user says about the data: files, columns, features, tasks and the split."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

TimestampUnit = Literal["auto", "seconds", "milliseconds", "microseconds", "iso", "order"]
FeatureKind = Literal["categorical", "categories", "numeric", "text", "vector"]


class Config(BaseModel):
    """A frozen piece of configuration that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FeatureConfig(Config):
    """One column that describes a user, an item or an event."""

    name: str
    kind: FeatureKind
    column: str | None = None
    """The column's name in the file; the feature's name where left out."""
    separator: str = "|"
    """Between the values of a `categories` column."""
    filterable: bool = False
    """Whether requests may filter by it: an item's category or categories, or a number."""

    @model_validator(mode="after")
    def _kind_can_be_filtered(self) -> Self:
        if self.filterable and self.kind in ("text", "vector"):
            raise ValueError(
                f"the feature {self.name!r} is of kind {self.kind}, which cannot be filterable; "
                "only categorical, categories and numeric ones can"
            )
        return self

    @property
    def source(self) -> str:
        """The column that the feature is read from."""
        return self.column or self.name


class EventTypes(Config):
    """How to read a log whose rows are of several types."""

    column: str
    """The column that holds the type."""
    exposure: tuple[str, ...] = ()
    """Types that say an item was shown; labels are observed on these rows."""
    chosen: tuple[str, ...] = Field(min_length=1)
    """Types that say the user chose the item."""


class DataConfig(Config):
    """Where the log, the items and the users are, and what their columns mean."""

    events: str | tuple[str, ...]
    """A file, a folder of shards or a glob; CSV (also gzipped) or Parquet; or a list of these."""
    items: str | tuple[str, ...] | None = None
    users: str | tuple[str, ...] | None = None
    delimiter: str = ","
    """Between the columns of a CSV file."""
    columns: tuple[str, ...] | None = None
    """Names of the columns of an events file that has no header line."""
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | None = "timestamp"
    """None where the order of the rows is all that is known."""
    timestamp_unit: TimestampUnit = "auto"
    weight: str | None = None
    """Column of how much each event counts in the losses of both stages, 1 as an event does without
    it: numbers of at least 0. All count alike where left out. What is measured is not weighed."""
    propensity: str | None = None
    """Column of the probability with which an exposure's place was given to its item: above 0,
    empty where there is none. With it the ranker learns what whoever filled the log would show
    (`ranking.logging_policy`), a learnt order counts what was shown anyway less (all that was
    chosen is taken to have been shown by the same policy), and what each order would have earned of
    every binary task is estimated on up to 1,500 requests of the test window, if it showed one of
    its first ten, each as likely as the others."""
    positive: str | None = None
    """Which events count as chosen, e.g. `rating >= 4`; all where left out."""
    event: EventTypes | None = None
    item_features: tuple[FeatureConfig, ...] = ()
    user_features: tuple[FeatureConfig, ...] = ()
    event_features: tuple[FeatureConfig, ...] = ()
    """Context of the request, known before the item is chosen."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind in ("item_features", "user_features", "event_features"):
            names = [feature.name for feature in getattr(self, kind)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{kind}: the name {name!r} stands twice; give each its own")
        for kind in ("user_features", "event_features"):
            for feature in getattr(self, kind):
                if feature.filterable:
                    raise ValueError(
                        f"{kind}: {feature.name!r} is filterable, but requests filter items; "
                        "remove the key"
                    )
        if self.event is not None and self.positive is not None:
            raise ValueError("give either `positive` or `event.chosen`, not both")
        return self


class TaskConfig(Config):
    """One thing to be predicted of a (user, item) pair, and its weight in the ranking loss."""

    weight: float = Field(default=1.0, ge=0.0)
    """How much it matters beside the others: losses are brought to one scale before."""
    kind: Literal["retrieval", "regression", "binary"] = "retrieval"
    column: str | None = None
    """The label's column, or for a binary task a condition on one, e.g. `quantity > 1`."""
    event: tuple[str, ...] = ()
    """In a log with event types: the types that make the label of an earlier exposure 1."""
    range: tuple[float, float] | None = None
    """Lowest and highest label allowed; rows outside are counted and dropped."""
    given: str | None = None
    """A binary task without which this one cannot be, e.g. the view before a purchase: its chance
    is then that of both."""
    selection: Literal["none", "inverse_propensity", "doubly_robust"] = "none"
    """Correction where labels exist for a chosen part of the exposures only, as ratings do for what
    was bought."""

    @field_validator("range")
    @classmethod
    def _range_is_ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"range {list(value)} must be [low, high] with low < high")
        return value

    @model_validator(mode="after")
    def _label_is_named_once(self) -> Self:
        named = (self.column is not None) + bool(self.event)
        if self.kind == "retrieval" and named:
            raise ValueError(
                "the retrieval task has no label column; set kind: regression or binary"
            )
        if self.kind != "retrieval" and named != 1:
            raise ValueError(
                "a task needs its label: give `column`, or `event` in a log with types"
            )
        if self.kind == "regression" and self.event:
            raise ValueError("a regression task reads its label from `column`")
        if self.given is not None and self.kind != "binary":
            raise ValueError(f"only a binary task can be given another, but it is {self.kind}")
        if self.selection != "none" and self.kind == "retrieval":
            raise ValueError("the retrieval task has no labels to correct; leave out `selection`")
        return self


class SplitConfig(Config):
    """How the time line is cut into retrieval | ranking | validation | test."""

    kind: Literal["time", "leave_last_out", "random"] = "time"
    """`random` gives every row to a window by lot, as benchmarks of ratings do: models learn from
    what came later too. Since when an item is there, the whole log says, as under `leave_last_out`:
    from its first event on it can be a candidate, held out or not."""
    ranking: float = Field(default=0.35, gt=0, lt=1)
    """Share of the events in the ranking window, under `time` and `random`. The retriever that is
    served learns from these as well; only the one that makes the ranker's candidates does not."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    ranking_events: int = Field(default=5, ge=1)
    """Most events a user gives to the ranking window, under `leave_last_out`."""
    test_events: int = Field(default=1, ge=1)
    """Events a user gives to the test window under `leave_last_out`, half of the user's at most."""
    seed: int = Field(default=0, ge=0)
    """Of the lot, under `random`."""

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.ranking + self.validation + self.test >= 0.9:
            raise ValueError("ranking + validation + test must leave at least 0.1 for retrieval")
        return self
