"""What the brakes need to know from the lake: new labels, and hours spent on training."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime

import polars as pl

from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.monitoring.trainings import trainings
from evergreen.pipeline import Pipeline


def new_positives(pipeline: Pipeline, first: date, last: date, *, known_by: datetime, lake: Lake) -> int:
    """How many events of first..last are labelled positive, as was known at `known_by`; 0 when last < first."""
    if last < first:
        return 0
    key = pipeline.contract.key
    positive = _positive_keys(pipeline, first, known_by, lake)
    events = lake.read(
        "features", pipeline.pipeline, as_of=known_by, since=start_of(first), until=end_of(last), columns=(key,)
    )
    frames = (pl.DataFrame(batch).select(pl.col(key).cast(pl.String).alias("key")) for batch in events)
    return sum(frame.join(positive, on="key", how="semi").height for frame in frames)


def training_hours(pipeline: Pipeline, month: date, lake: Lake) -> tuple[float, float]:
    """Hours that training took in the calendar month of `month`, and those of the run that took longest ever.

    The trials of a search are training too; what `evergreen replay` makes again is none. Receipts are the witness, so
    a training that died without one is not counted.
    """
    tries = trainings(pipeline.pipeline, lake)
    started = [one for one in tries if one.started_at.date().replace(day=1) == month.replace(day=1)]
    runs: defaultdict[str, float] = defaultdict(float)
    for one in tries:
        runs[one.run] += one.seconds
    return sum(one.seconds for one in started) / 3600, max(runs.values(), default=0.0) / 3600


def _positive_keys(pipeline: Pipeline, first: date, known_by: datetime, lake: Lake) -> pl.DataFrame:
    """One row a key whose latest label is 1: `key` string."""
    reader = lake.read(
        "labels",
        pipeline.pipeline,
        as_of=known_by,
        since=start_of(first),
        until=known_by,
        columns=("key", "value", "known_at"),
    )
    labels = pl.DataFrame(reader.read_all()).cast({"key": pl.String, "value": pl.Int8})
    latest = labels.sort("known_at", "value").group_by("key").agg(pl.col("value").last())
    return latest.filter(pl.col("value") == 1).select("key")
