"""The nouns that travel between stages: small, frozen, JSON both ways.

An artifact names things in the lake and says how large they are and what their digest is; it never
holds the data. All digests are lower-case hex SHA-256, all days UTC, all instants aware and UTC.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Artifact(BaseModel):
    """A frozen value that refuses unknown fields; `model_dump_json` and `model_validate_json` invert each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """This artifact as one line of JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The artifact that `to_json` wrote; raises pydantic.ValidationError on anything else."""
        return cls.model_validate_json(text)


class TableDay(Artifact):
    """One day of one Delta table.

    <lake>/<zone>/<pipeline>/day=<day>/<digest>.parquet
    """

    zone: str
    pipeline: str
    day: date
    rows: int = Field(ge=0)
    digest: str
    """SHA-256 over the day's file digests; of an empty day, that of nothing."""
    version: int = Field(ge=0)
    """Delta version of the table at which this day was so."""


class ObjectRef(Artifact):
    """One immutable object of the lake, by path below the lake's root."""

    path: str
    digest: str
    size_bytes: int | None = Field(default=None, ge=0)


class Estimate(Artifact):
    """A number with its interval, `low <= value <= high` at the stated level (0.95 unless said)."""

    value: float
    low: float
    high: float


class RawBatch(Artifact):
    """Days as the source had them, rows uninterpreted: `raw/` and the labels reported on `day`."""

    pipeline: str
    day: date
    days: tuple[TableDay, ...]
    """The day itself first, then missed days that were made up for and days re-read because late rows came."""
    labels: TableDay | None = None


class CleanBatch(Artifact):
    """Days that passed their expectations: `clean/`, with the refused rows in `quarantine/`."""

    pipeline: str
    day: date
    days: tuple[TableDay, ...]
    quarantine: tuple[TableDay, ...]
    quarantined: dict[str, int]
    """Rows of `day` by reason; a row with two reasons counts under both."""
    cleaned: dict[str, int]
    """Values of `day` that each cleaning rule changed, by rule."""
    report: ObjectRef
    """HTML of the validation, for people."""


class FeatureTable(Artifact):
    """One row an event with its point-in-time features: `features/`."""

    pipeline: str
    day: date
    days: tuple[TableDay, ...]
    built_from: dict[str, str]
    """Clean day (ISO) -> digest it had when `day` was built."""


class TrainingSet(Artifact):
    """Immutable training, validation and holdout rows under one content digest.

    training_sets/<pipeline>/<digest>/
        train.parquet validation.parquet holdout.parquet manifest.json
    """

    pipeline: str
    as_of: datetime
    """Nothing learned after this instant is inside."""
    digest: str
    """SHA-256 of manifest.json, which lists the digest of every part and of every input day."""
    uri: str
    """Path of the folder below the lake's root."""
    train_days: tuple[date, date]
    """First and last, inclusive; so for the others."""
    validation_days: tuple[date, date]
    holdout_days: tuple[date, date]
    rows: dict[str, int]
    """Rows by part."""
    positives: dict[str, int]


class Model(Artifact):
    """A trained model, immutable under its content digest.

    models/<pipeline>/<version>/
        model.onnx          raw feature columns in, calibrated score out; encoders inside
        weights.safetensors the same network's parameters
        config.json         resolved training config and seed
        signature.json      names and order of the model's inputs (see serving)
        definitions.json    feature -> digest of the definition it was learned by; not in older models
        metrics.json        metrics on the validation days
        card.md             model card
        manifest.json       path -> digest of all of these
    """

    pipeline: str
    version: str
    """`<as-of day>-<first eight digits of digest>`."""
    as_of: datetime
    digest: str
    """SHA-256 of manifest.json."""
    uri: str
    training_set: str
    """Digest of the training set."""
    seed: int
    backfill: bool = False


class Trial(Artifact):
    """One configuration of a search, trained for a number of epochs."""

    configuration: dict[str, object]
    """Field of the spec's `training` section -> value tried."""
    epochs: int = Field(ge=1)
    average_precision: float
    """On the validation days."""
    model: Model


class Configuration(Artifact):
    """What a search chose, and everything it tried, best first."""

    pipeline: str
    chosen: dict[str, object]
    trials: tuple[Trial, ...]


class Evaluation(Artifact):
    """What a model does on the holdout days, beside the champion on the very same rows.

    evaluations/<pipeline>/<version>/<training set>-<champion>-<own digest>.json
    """

    pipeline: str
    version: str
    training_set: str
    holdout_days: tuple[date, date]
    rows: int
    positives: int
    metrics: dict[str, Estimate]
    """By name, for example average_precision, roc_auc, calibration_error."""
    slices: dict[str, Estimate]
    """`column=value` -> average precision there."""
    champion: str | None = None
    champion_metrics: dict[str, Estimate] = {}
    difference: Estimate | None = None
    """Average precision, candidate minus champion, paired bootstrap."""
    slice_differences: dict[str, Estimate] = {}
    importance: dict[str, float] = {}
    """Feature -> average precision lost when its values are shuffled, the most important first."""
    champion_saw_holdout: bool = False
    report: ObjectRef | None = None
    """HTML for people; None for evaluations that did not note it yet."""


class Verdict(Artifact):
    """Whether a candidate may go live, and every reason for or against."""

    pipeline: str
    version: str
    approved: bool
    judged: Literal["absolute", "against champion"]
    champion: str | None
    reasons: tuple[str, ...]


class Deployment(Artifact):
    """One change of what serves, as the ledger has it; also `deployments/<pipeline>/current.json`."""

    pipeline: str
    sequence: int
    at: datetime
    from_version: str | None
    to_version: str
    model_uri: str
    model_digest: str
    actor: str
    reason: str


class ColumnDrift(Artifact):
    """How far one column moved from its reference."""

    column: str
    kind: Literal["numeric", "categorical", "score"]
    population_stability: float
    jensen_shannon: float
    """Divergence in nats, 0 to ln 2."""
    p_value: float
    """Adjusted for the number of columns judged (Benjamini-Hochberg)."""
    drifted: bool


class DriftReport(Artifact):
    """Whether the recent days look unlike the days the champion learned from."""

    pipeline: str
    first_day: date
    last_day: date
    version: str | None
    """Model whose training days are the reference."""
    rows: int
    drifted: bool
    reason: str
    columns: tuple[ColumnDrift, ...]
    report: ObjectRef
    """HTML with pictures, for people."""


class RetrainDecision(Artifact):
    """What the governor decided for a day and why, also when it decided not to."""

    pipeline: str
    day: date
    retrain: bool
    reason: str
    signals: dict[str, bool]
    brakes: dict[str, bool]
    """Brake -> whether it held."""


class Receipt(Artifact):
    """Proof of one try of one task, written last.

    receipts/<pipeline>/<dag run>/<task>/<try>.json
    """

    pipeline: str
    run: str
    task: str
    attempt: int = Field(ge=0)
    inputs: dict[str, str]
    """Name -> digest."""
    tables: tuple[TableDay, ...] = ()
    objects: tuple[ObjectRef, ...] = ()
    result: dict[str, object] = {}
    """The artifact the task returned, as JSON."""
    spec_digest: str
    code_version: str
    code_digest: str = ""
    """Of every source file of the package, and of a trainer of one's own (see evergreen.provenance)."""
    environment: dict[str, str] = {}
    """Library -> release."""
    hardware: str = ""
    image: str = ""
    seed: int | None = None
    halvings: int = Field(default=0, ge=0)
    """How often the rows on the device at once were halved, since memory had run out before."""
    device: str = "cpu"
    """What a model was trained on, as its config.json says: `cpu`, `cuda` or `xla`. Other work is the CPU's."""
    reused: str | None = None
    """Receipt of the run whose result this is, when nothing that decides it had changed."""
    started_at: datetime
    seconds: float = Field(ge=0)
    peak_memory_bytes: int = Field(ge=0)
    """Of the host's memory; that of an accelerator is not in it."""
    cost: float = Field(default=0.0, ge=0)
    """In the price book's currency: seconds times the profile's price; 0 without one."""
    energy_watt_hours: float = Field(default=0.0, ge=0)
    """An estimate: seconds times the profile's watts; 0 without one."""


def artifact_kind(name: str) -> type[Artifact]:
    """The artifact class called `name`, as receipts name results; ValueError when there is none."""
    kinds = {kind.__name__: kind for kind in Artifact.__subclasses__()}
    if name not in kinds:
        raise ValueError(f"{name!r} is not one of {sorted(kinds)}")
    return kinds[name]
