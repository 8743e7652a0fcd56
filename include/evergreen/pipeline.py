"""What a pipeline's YAML file may say: the only thing a user must write.

The models refuse unknown keys, wrong types and impossible combinations; `pipeline_file` reads a
file into them and turns a refusal into file, line, found and wanted.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
"""A pipeline, feature or profile-like name: lower case, digits, underscores."""
Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)]
Table = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$")]
"""A table, with its schema before a dot if it has one."""

RESERVED_COLUMNS = frozenset({"event_time", "known_at", "superseded_at", "day", "row", "reasons"})
"""What the lake's tables and their validation call columns of their own."""
DURATION = re.compile(r"^(\d+)\s*(s|m|h|d)$")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """The time span that `90s`, `10m`, `1h` or `7d` stands for; ValueError on anything else."""
    match = DURATION.match(text)
    if not match or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m, 1h or 7d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def _checked_duration(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_checked_duration)]


class Part(BaseModel):
    """A frozen section of the spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Part):
    """Where the events come from."""

    connection: Name
    """Id of the Airflow connection; on the command line `AIRFLOW_CONN_<ID>`."""
    table: Table
    late_days: int = Field(default=2, ge=0, le=31)
    """Earlier days that each day's ingestion looks at again for rows and labels that came late."""


class ColumnSpec(Part):
    """One column of the contract."""

    type: Literal["string", "integer", "float", "boolean", "timestamp"]
    nullable: bool = False
    unit: str | None = None
    description: str | None = None
    example: str | int | float | bool | None = None
    """A plausible value, for documentation and the example request."""


class Contract(Part):
    """What a row is. `event_time` and `known_at` are always there and are not listed again."""

    key: Column
    """Column whose value, a string or an integer, names one event; the latest known row of a key wins."""
    event_time: Column
    """Source column of the instant it happened; called `event_time` from the lake on."""
    known_at: Column
    """Source column of the instant the source had the row; called `known_at` from the lake on."""
    subject: Column | None = None
    """Column naming the person the row is about, for erasure."""
    columns: dict[Column, ColumnSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for role, column in (("key", self.key), ("subject", self.subject)):
            if column is not None and column not in self.columns:
                raise ValueError(f"{role} {column!r} is not among columns")
        taken = RESERVED_COLUMNS & self.columns.keys()
        if taken:
            raise ValueError(f"columns {sorted(taken)} are reserved; leave them out, or let a view rename them")
        if (kind := self.columns[self.key].type) not in ("string", "integer"):
            raise ValueError(
                f"key {self.key!r} is of type {kind}, whose text labels may write otherwise; it must be "
                "string or integer"
            )
        return self


class Label(Part):
    """What is to be predicted, and when it becomes known."""

    name: Name
    table: Table
    """Table of outcomes in the same source database."""
    key: Column
    """Its column that holds the contract's key."""
    known_at: Column
    """Its column of the instant the outcome was known."""
    value: Column | None = None
    """Its 0/1 or boolean column; without one, a row there means 1."""
    matures_after_days: int = Field(ge=0, le=365)
    """Days after an event at which no label means 0. Younger days are never learned from."""


class Cleaning(Part):
    """Mending rules, applied before validation and idempotent. Casts follow from the contract."""

    trim: tuple[Column, ...] = ()
    upper: tuple[Column, ...] = ()
    lower: tuple[Column, ...] = ()
    empty_is_null: tuple[Column, ...] = ()


Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class Validation(Part):
    """Great Expectations by name; failing rows go to quarantine, a failing batch stops the day."""

    expectations: tuple[dict[str, dict[str, object]], ...] = ()
    """Each `ExpectSomething: {arguments}`, any expectation of Great Expectations 1.24."""
    max_bad_share: float = Field(default=0.02, ge=0, le=1)
    """Share of a day's rows that may go to quarantine before the day is refused."""
    min_rows: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_name_each(self) -> Self:
        for entry in self.expectations:
            if len(entry) != 1 or not next(iter(entry)).startswith("Expect"):
                raise ValueError(f"{sorted(entry)} is not one expectation such as ExpectColumnValuesToNotBeNull")
        return self


class Window(Part):
    """A trailing aggregate over earlier events with the same key; the row itself is excluded.

    An event at t sees rows with t - over <= event_time < t that were known by t.
    """

    by: tuple[Column, ...] = Field(min_length=1)
    over: Duration
    aggregate: Literal["count", "sum", "mean", "max", "seconds_since_last"]
    of: Column | None = None
    """Integer column to aggregate; none for count and seconds_since_last."""

    @model_validator(mode="after")
    def _aggregate_has_operand(self) -> Self:
        if (self.of is None) != (self.aggregate in ("count", "seconds_since_last")):
            raise ValueError(f"aggregate {self.aggregate} and of={self.of!r} do not go together")
        return self


class Features(Part):
    """Declared once, compiled for batches and for single events."""

    windows: dict[Name, Window] = {}
    expressions: dict[Name, str] = {}
    """Row expressions over contract columns, `event_time` and windows: `log1p(amount_cents / 100)`."""
    numeric: tuple[Name, ...] = ()
    """Features the model takes as numbers: names of windows, expressions or columns."""
    categorical: tuple[Name, ...] = ()
    """Features the model takes as categories."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        twice = self.windows.keys() & self.expressions.keys()
        if twice:
            raise ValueError(f"{sorted(twice)} are both windows and expressions")
        if not self.numeric and not self.categorical:
            raise ValueError("neither numeric nor categorical features are named")
        return self


class Parallel(Part):
    """How several processes train one model, started by torchrun in the training pod."""

    strategy: Literal["none", "data", "sharded", "pipeline", "tensor"] = "none"
    """`data`: each has the whole network and a share of every batch (DistributedDataParallel). `sharded`: the same, but
    each keeps a share of the weights alone (fully_shard). `pipeline`: each has some of the layers. `tensor`: each has
    a part of every layer and embedding table."""
    processes: int | None = Field(default=None, ge=1, le=1024)
    """Processes of a pod; None: as many as it has devices."""


class Training(Part):
    """How a model is made from history. Days count back from the last mature day."""

    window_days: int = Field(default=21, ge=1, le=1000)
    validation_days: int = Field(default=2, ge=1, le=90)
    """Days after the training days, for early stopping and calibration."""
    holdout_days: int = Field(default=2, ge=1, le=90)
    """Last mature days, for the gate alone."""
    seed: int = Field(default=7, ge=0, lt=2**31)
    profile: str = "cpu-small"
    """Resource profile of the pod, from include/profiles.yaml."""
    image: str | None = None
    """Image of the training pod, for a trainer of one's own; None: the torch trainer's."""
    command: tuple[str, ...] = Field(default=("python", "-m", "evergreen.step"), min_length=1)
    """What the training pod runs, before the word `train` and the step's options."""
    family: Literal["network", "trees", "blend"] = "blend"
    """`network`: a multi-layer perceptron in torch. `trees`: LightGBM. `blend`: both, weighed by validation days."""
    members: int = Field(default=1, ge=1, le=16)
    """Networks whose logits are averaged, each from a seed of its own; as many times the cost."""
    max_trees: int = Field(default=600, ge=1, le=20_000)
    tree_leaves: int = Field(default=31, ge=2, le=1024)
    tree_learning_rate: float = Field(default=0.05, gt=0, le=1)
    max_epochs: int = Field(default=20, ge=1, le=1000)
    patience: int = Field(default=6, ge=1)
    """Epochs without a better validation average precision before stopping."""
    batch_rows: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(128, 128), min_length=1)
    """Units of each layer."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    negative_share: float = Field(default=0.2, gt=0, le=1)
    """Share of negatives drawn afresh each epoch; scores are corrected for it."""
    micro_batch_rows: int | None = Field(default=None, ge=1)
    """Rows on the device at once; gradients accumulate to batch_rows. None: the whole batch."""
    rows_in_memory: int = Field(default=2_000_000, ge=1000)
    """A part with more rows is encoded into shards on the pod's scratch disk and streamed from there; its encoders are
    fitted on this many of its rows, evenly spaced."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of matrix products; tf32 is float32 on a CPU."""
    parallel: Parallel = Parallel()
    threads: int = Field(default=2, ge=1, le=256)
    """CPU threads of the arithmetic of each process. Fixed here and not by the machine, so that a seed gives the same
    bits anywhere."""

    @model_validator(mode="after")
    def _trees_grow_in_one_process(self) -> Self:
        if self.family == "trees" and self.parallel.strategy != "none":
            raise ValueError(f"family trees and parallel.strategy {self.parallel.strategy} do not go together")
        return self


class Choice(Part):
    """One of the values named, each as likely."""

    choices: tuple[int | float | str | tuple[int, ...], ...] = Field(min_length=1)


class Span(Part):
    """A number between two others, uniformly or by its logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_span(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low={self.low} and high={self.high} are no span" + (" of logarithms" * self.log))
        return self


NOT_TRIED = {
    "micro_batch_rows": "it changes no trial, only what memory it takes",
    **dict.fromkeys(("profile", "image", "command"), "every pod of a search is made before anything is drawn"),
}
"""Field of `training` that a search cannot vary -> why."""


class Search(Part):
    """Configurations tried in pods of their own before the training that counts, by successive halving."""

    configurations: int = Field(ge=2, le=256)
    keep_one_in: int = Field(default=3, ge=2, le=10)
    """Share of configurations that goes on to the next round, which trains as many times longer."""
    budget_epochs: int = Field(ge=2)
    """Epochs over all trials of all rounds."""
    seed: int = Field(default=7, ge=0, lt=2**31)
    space: dict[Name, Choice | Span] = Field(min_length=1)
    """Field of `training` -> what it may be."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Configurations of each round."""
        sizes = [self.configurations]
        while (left := -(-sizes[-1] // self.keep_one_in)) > 1:
            sizes.append(left)
        return tuple(sizes)

    @model_validator(mode="after")
    def _budget_suffices(self) -> Self:
        needed = sum(size * self.keep_one_in**k for k, size in enumerate(self.sizes))
        if self.budget_epochs < needed:
            raise ValueError(
                f"budget_epochs={self.budget_epochs} is too little: rounds of {self.sizes} configurations, each "
                f"training {self.keep_one_in} times as long as the one before, take {needed} epochs"
            )
        return self


class Gate(Part):
    """When a model may go live. There is no default: no thresholds, no approval."""

    minimum: dict[Literal["average_precision", "roc_auc"], float] = Field(min_length=1)
    """Absolute floors on the holdout, for every model."""
    min_positives: int = Field(default=30, ge=1)
    slices: tuple[Name, ...] = ()
    """Categorical features whose values are judged apart."""
    max_slice_loss: float = Field(default=0.05, ge=0)
    """Average precision a challenger may lose on a slice; losing more, with an interval below 0, refuses it."""
    slice_min_positives: int = Field(default=20, ge=1)


class Decisions(Part):
    """Names for scores: the first whose floor the score reaches, from high to low, else `otherwise`."""

    floors: dict[Name, float] = Field(min_length=1)
    otherwise: Name = "approve"


class DeploymentSpec(Part):
    """How a model goes live."""

    decisions: Decisions
    approval: bool = False
    """Whether a person must say yes in the Airflow UI first."""


class Monitoring(Part):
    """When recent days count as drifted."""

    window_days: int = Field(default=1, ge=1, le=90)
    min_rows: int = Field(default=1000, ge=1)
    """Fewer rows than this give no verdict."""
    population_stability_floor: float = Field(default=0.2, gt=0)
    jensen_shannon_floor: float = Field(default=0.02, gt=0, lt=0.7)
    """Divergence in nats; a column drifts only above both floors."""
    false_discovery_rate: float = Field(default=0.01, gt=0, lt=1)
    min_drifted_columns: int = Field(default=1, ge=1)


class Retraining(Part):
    """When training starts by itself: every night, and on drift unless a brake holds."""

    nightly: bool = True
    """False leaves training to drift, to people and to backfills."""
    cooldown_days: int = Field(default=3, ge=0)
    """Days after a retrain was asked for during which none is asked for again."""
    min_new_labels: int = Field(default=100, ge=0)
    """Positive labels of drifted days that a retrain would learn from."""
    gpu_hours_per_month: float = Field(default=20.0, ge=0)
    """Pod hours of training in a calendar month beyond which no drift retrain starts."""


class Pipeline(Part):
    """One pipeline: a file `include/pipelines/<pipeline>.yaml`."""

    pipeline: Name
    owner: str = Field(min_length=1)
    purpose: str = Field(min_length=1)
    source: Source
    contract: Contract
    label: Label
    cleaning: Cleaning = Cleaning()
    validation: Validation = Validation()
    features: Features
    training: Training = Training()
    search: Search | None = None
    gate: Gate
    deployment: DeploymentSpec
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved spec; equal specs, equal digests, whatever the YAML's layout."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @model_validator(mode="after")
    def _cleaning_names_columns(self) -> Self:
        for rule, columns in self.cleaning:
            _require_known(f"cleaning.{rule}", columns, self.contract.columns.keys())
            if rule != "empty_is_null" and self.contract.key in columns:
                raise ValueError(
                    f"cleaning.{rule} names the key {self.contract.key!r}, which labels would no longer meet; "
                    "let a view mend it in both tables"
                )
        return self

    @model_validator(mode="after")
    def _windows_name_columns(self) -> Self:
        for name, window in self.features.windows.items():
            where = f"features.windows.{name}"
            _require_known(where, window.by, self.contract.columns.keys())
            if window.of is not None:
                _require_known(where, (window.of,), self.contract.columns.keys())
                if self.contract.columns[window.of].type != "integer":
                    raise ValueError(f"{where}: of={window.of!r} must be an integer column, so that sums are exact")
        return self

    @model_validator(mode="after")
    def _search_stays_within_training(self) -> Self:
        for name, values in self.search.space.items() if self.search else ():
            _require_known("search.space", (name,), Training.model_fields.keys())
            if name in NOT_TRIED:
                raise ValueError(f"search.space.{name}: {NOT_TRIED[name]}; set training.{name} instead")
            tried = values.choices if isinstance(values, Choice) else (values.low, values.high)
            for value in tried:
                Training.model_validate(self.training.model_dump() | {name: value})
        return self

    @model_validator(mode="after")
    def _inputs_exist(self) -> Self:
        known = self.features.windows.keys() | self.features.expressions.keys() | self.contract.columns.keys()
        _require_known("features.numeric", self.features.numeric, known)
        _require_known("features.categorical", self.features.categorical, known)
        _require_known("gate.slices", self.gate.slices, frozenset(self.features.categorical))
        return self


def _require_known(where: str, names: tuple[str, ...], known: object) -> None:
    unknown = [name for name in names if name not in known]  # type: ignore[operator]
    if unknown:
        raise ValueError(f"{where} names {unknown}, which is not declared; declared are {sorted(known)}")  # type: ignore[call-overload]
