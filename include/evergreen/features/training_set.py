"""Freezes what was known at an instant into an immutable training set.

training_sets/<pipeline>/<digest>/
    train.parquet validation.parquet holdout.parquet    rows by event time, then key
    manifest.json                                       where every row came from; its digest is the set's
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import polars as pl
import pyarrow.parquet as pq

from evergreen.artifacts import TableDay, TrainingSet
from evergreen.errors import Conflict, DataError, NotFound
from evergreen.features.build import refresh_features
from evergreen.features.definitions import definition_digest, feature_digests
from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.lake.objects import file_digest, require_digest
from evergreen.lake.tables import days_between
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)
Part = Literal["train", "validation", "holdout"]
PARTS: tuple[Part, ...] = ("train", "validation", "holdout")
Days = tuple[date, date]
INSTANT = timedelta(microseconds=1)
"""Days are half-open: what became known as the next day began was not known when this one ended."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """First and last day, inclusive, of each part."""

    train: Days
    validation: Days
    holdout: Days

    @classmethod
    def of(cls, pipeline: Pipeline, as_of_day: date, window_days: int) -> Split:
        """The parts counted back from the last day whose labels are complete."""
        training = pipeline.training
        last = as_of_day - timedelta(days=pipeline.label.matures_after_days)
        holdout = last - timedelta(days=training.holdout_days - 1)
        validation = holdout - timedelta(days=training.validation_days)
        return cls(
            train=(validation - timedelta(days=window_days), validation - timedelta(days=1)),
            validation=(validation, holdout - timedelta(days=1)),
            holdout=(holdout, last),
        )

    def days(self, part: Part) -> Days:
        """First and last day of `part`."""
        found: Days = getattr(self, part)
        return found


def build_training_set(
    pipeline: Pipeline,
    as_of_day: date,
    lake: Lake,
    *,
    window_days: int | None = None,
    features: Lake | None = None,
) -> TrainingSet:
    """The training set of all that was known when `as_of_day` ended; the same history gives the same digest.

    Features whose inputs changed are rebuilt first; `features` is the lake that keeps them, where it is another one:
    those of `lake` then stay as they are. History shorter than the window is used as it is. Raises NotFound when a part
    has no rows or the labels reported on a day were never read, DataError when a part has no positive or no negative
    row, Conflict when features were rebuilt meanwhile.
    """
    features = features or lake
    split = Split.of(pipeline, as_of_day, window_days or pipeline.training.window_days)
    as_of = end_of(as_of_day)
    used = refresh_features(pipeline, lake, split.train[0], split.holdout[1], features=features)
    labels = _labels(pipeline, lake, split.train[0], as_of)
    frames = {part: _part(pipeline, features, split.days(part), as_of, labels) for part in PARTS}
    _require_unchanged(
        pipeline, used, features.table("features", pipeline.pipeline).days(split.train[0], split.holdout[1])
    )
    for part, frame in frames.items():
        _require_both_classes(pipeline, part, split.days(part), frame)
    first = frames["train"]["event_time"].dt.date()[0]
    _require_labels(pipeline, lake, first, as_of_day)
    split = replace(split, train=(first, split.train[1]))
    origin: dict[str, object] = {
        "pipeline": pipeline.pipeline,
        "as_of": as_of.isoformat(),
        "definition": definition_digest(pipeline),
        "definitions": feature_digests(pipeline),
        "label": pipeline.label.model_dump(),
        "numeric": pipeline.features.numeric,
        "categorical": pipeline.features.categorical,
        "features": {day.day.isoformat(): day.digest for day in used},
        **{f"{part}_days": [day.isoformat() for day in split.days(part)] for part in PARTS},
    }
    return _store(pipeline, lake, as_of, split, frames, origin)


def fetch_part(lake: Lake, training_set: TrainingSet, part: Part, folder: Path) -> Path:
    """A local copy of one part in `folder`; IntegrityError when it is not the one the set was made with."""
    manifest = json.loads(lake.objects.get(f"{training_set.uri}/manifest.json"))
    local, path = folder / f"{part}.parquet", f"{training_set.uri}/{part}.parquet"
    require_digest(
        f"{training_set.uri}/manifest.json",
        found=lake.objects.digest(f"{training_set.uri}/manifest.json"),
        wanted=training_set.digest,
    )
    lake.objects.fetch(path, local)
    require_digest(path, found=file_digest(local), wanted=manifest["parts"][part]["digest"])
    return local


def _labels(pipeline: Pipeline, lake: Lake, first: date, as_of: datetime) -> pl.DataFrame:
    """The latest value reported of each key since `first`, which no event in question precedes: `key` and `label`."""
    known = lake.read("labels", pipeline.pipeline, as_of=as_of - INSTANT, since=start_of(first), until=as_of)
    rows = pl.DataFrame(known.read_all())
    if not rows.height:
        return pl.DataFrame(schema={"key": pl.String, "label": pl.Int8})
    # At one instant a positive outcome wins over a negative one.
    latest = rows.sort("known_at", "value").unique("key", keep="last", maintain_order=True)
    return latest.select(pl.col("key").cast(pl.String), pl.col("value").cast(pl.Int8).alias("label"))


def _part(pipeline: Pipeline, lake: Lake, days: Days, as_of: datetime, labels: pl.DataFrame) -> pl.DataFrame:
    """Features of `days` as known at `as_of`, each with its label; no label by then means 0."""
    key, names = pipeline.contract.key, [*pipeline.features.numeric, *pipeline.features.categorical]
    history = lake.read(
        "features",
        pipeline.pipeline,
        as_of=as_of - INSTANT,
        since=start_of(days[0]),
        until=end_of(days[1]),
        columns=[key, "event_time", *names],
    )
    rows = pl.DataFrame(history.read_all())
    if not rows.height:
        raise NotFound(
            f"Training set of {pipeline.pipeline} as of {as_of:%Y-%m-%d %H:%M}",
            found=f"no rows from {days[0]} to {days[1]}",
            wanted="at least a day for training, validation and holdout each, with complete labels",
            remedy=f"Run or backfill {pipeline.pipeline}.ingest_data for those days, or choose a later as-of day.",
        )
    labelled = rows.join(labels, left_on=key, right_on="key", how="left", maintain_order="left")
    ordered = labelled.with_columns(pl.col("label").fill_null(0)).sort("event_time", key)
    return ordered.select(key, "event_time", "label", *names)


def _require_unchanged(pipeline: Pipeline, used: Sequence[TableDay], now: Sequence[TableDay]) -> None:
    """Nothing, when the days are still those that were to be read: a read of others would mix two definitions."""
    changed = {(day.day, day.digest) for day in used} ^ {(day.day, day.digest) for day in now}
    if changed:
        raise Conflict(
            f"Features of {pipeline.pipeline}",
            found=f"{min(changed)[0]} built anew while they were read",
            wanted="the same days before and after",
            remedy="Run the task again when no other run builds features of these days.",
        )


def _require_labels(pipeline: Pipeline, lake: Lake, first: date, last: date) -> None:
    """Nothing, when the labels reported on each day were read: what was never read would count as 0."""
    read = {day.day for day in lake.table("labels", pipeline.pipeline).days(first, last)}
    absent = [day for day in days_between(first, last) if day not in read]
    if absent:
        raise NotFound(
            f"Labels of {pipeline.pipeline} from {first} to {last}",
            found=f"none read of {len(absent)} days, the first {absent[0]}, the last {absent[-1]}",
            wanted="those reported on each day, be there none",
            remedy=f"Run or backfill {pipeline.pipeline}.ingest_data for those days.",
        )


def _require_both_classes(pipeline: Pipeline, part: str, days: Days, frame: pl.DataFrame) -> None:
    positives = int(frame["label"].sum())
    if part != "holdout" and positives in (0, frame.height):
        raise DataError(
            f"Labels of {pipeline.pipeline} from {days[0]} to {days[1]}",
            found=f"{positives} positive among {frame.height} rows for {part}",
            wanted="both positive and negative rows",
            remedy="Check label.table and label.matures_after_days, or choose a wider window.",
        )


def _store(
    pipeline: Pipeline,
    lake: Lake,
    as_of: datetime,
    split: Split,
    frames: Mapping[Part, pl.DataFrame],
    origin: dict[str, object],
) -> TrainingSet:
    with TemporaryDirectory(prefix="evergreen-") as name:
        folder = Path(name)
        parts = {part: _write(folder / f"{part}.parquet", frame) for part, frame in frames.items()}
        manifest = json.dumps(origin | {"parts": parts}, sort_keys=True).encode()
        digest = hashlib.sha256(manifest).hexdigest()
        uri = f"training_sets/{pipeline.pipeline}/{digest}"
        for part in frames:
            lake.objects.put_file(f"{uri}/{part}.parquet", folder / f"{part}.parquet")
        lake.objects.put(f"{uri}/manifest.json", manifest)
    rows = {part: frame.height for part, frame in frames.items()}
    positives = {part: int(frame["label"].sum()) for part, frame in frames.items()}
    logger.info("Training set %s: rows %s, positives %s", digest[:12], rows, positives)
    return TrainingSet(
        pipeline=pipeline.pipeline,
        as_of=as_of,
        digest=digest,
        uri=uri,
        train_days=split.train,
        validation_days=split.validation,
        holdout_days=split.holdout,
        rows={str(part): count for part, count in rows.items()},
        positives={str(part): count for part, count in positives.items()},
    )


def _write(path: Path, frame: pl.DataFrame) -> dict[str, object]:
    pq.write_table(frame.to_arrow(), path, compression="zstd")
    return {"digest": file_digest(path), "rows": frame.height, "positives": int(frame["label"].sum())}
