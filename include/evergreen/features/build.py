"""Builds features by day, and knows which days' features no longer fit the clean days they were built from.

feature_builds/<pipeline>/<day>.json    what a day's features were built from
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from evergreen.artifacts import CleanBatch, FeatureTable, TableDay
from evergreen.features.compute import compute_features
from evergreen.features.definitions import Definitions, definition_digest, resolve
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.tables import days_between
from evergreen.pipeline import Pipeline, duration

logger = logging.getLogger(__name__)
TIMES = ("event_time", "known_at", "superseded_at")


class Build(BaseModel):
    """What a day's features were built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    definition: str
    """Digest of all that decides a feature's value beside the data."""
    inputs: dict[date, str]
    """Digest of every clean day in reach that there was."""
    output: str
    """Digest of the day's features themselves."""


def build_features(pipeline: Pipeline, clean: CleanBatch, lake: Lake) -> FeatureTable:
    """The features of the batch's days, rebuilt from the clean days that its windows reach back to."""
    built = [_build_day(pipeline, day.day, lake, lake) for day in clean.days]
    return FeatureTable(
        pipeline=pipeline.pipeline,
        day=clean.day,
        days=tuple(day for day, _ in built),
        built_from={day.isoformat(): digest for day, digest in built[0][1].inputs.items()},
    )


def stale_days(pipeline: Pipeline, lake: Lake, first: date, last: date, *, features: Lake | None = None) -> list[date]:
    """Clean days from `first` to `last` whose features are missing or were built from something else.

    `features` is the lake that keeps the features, where it is another one.
    """
    features = features or lake
    clean = {day.day: day.digest for day in lake.table("clean", pipeline.pipeline).days(_reach(pipeline, first), last)}
    built = {day.day: day.digest for day in features.table("features", pipeline.pipeline).days(first, last)}
    definition = definition_digest(pipeline)
    stale = []
    for day in days_between(first, last):
        inputs = _within(clean, _reach(pipeline, day), day)
        wanted = Build(definition=definition, inputs=inputs, output=built.get(day, ""))
        if day in clean and _read_build(pipeline, day, features) != wanted:
            stale.append(day)
    return stale


def refresh_features(
    pipeline: Pipeline, lake: Lake, first: date, last: date, *, features: Lake | None = None
) -> list[TableDay]:
    """The feature days from `first` to `last` after the stale ones among them were rebuilt.

    `features` is the lake that keeps the features, where it is another one: those of `lake` stay as they are.
    """
    features = features or lake
    found = {day.day: day for day in features.table("features", pipeline.pipeline).days(first, last)}
    for day in stale_days(pipeline, lake, first, last, features=features):
        logger.info("Building the features of %s for %s: there are none of its present inputs", pipeline.pipeline, day)
        found[day], _ = _build_day(pipeline, day, lake, features)
    return [found[day] for day in sorted(found)]


def _build_day(pipeline: Pipeline, day: date, lake: Lake, features: Lake) -> tuple[TableDay, Build]:
    definitions = resolve(pipeline)
    clean = lake.table("clean", pipeline.pipeline)
    inputs = {d.day: d.digest for d in clean.days(_reach(pipeline, day), day)}
    rows = _rows(clean.read([day], [*definitions.columns, *TIMES]))
    # All versions of all rows are read, also those known later: a window looks at known_at row by row.
    history = _rows(
        clean.read(
            sorted(inputs),
            [*definitions.history_columns, *TIMES],
            pc.field("event_time") >= pa.scalar(start_of(_reach(pipeline, day))),
        )
    )
    computed = _table(compute_features(pipeline, rows, history), definitions)
    table = features.table("features", pipeline.pipeline).replace_day(day, computed)
    build = Build(definition=definition_digest(pipeline), inputs=inputs, output=table.digest)
    features.objects.put(_path(pipeline, day), build.model_dump_json().encode())
    logger.info("Built %d rows of features of %s for %s", table.rows, pipeline.pipeline, day)
    return table, build


def _reach(pipeline: Pipeline, day: date) -> date:
    """The first day that windows of events on `day` can see."""
    longest = max((duration(w.over) for w in pipeline.features.windows.values()), default=timedelta())
    return (start_of(day) - longest).date()


def _within(days: dict[date, str], first: date, last: date) -> dict[date, str]:
    return {day: digest for day, digest in days.items() if first <= day <= last}


def _read_build(pipeline: Pipeline, day: date, lake: Lake) -> Build | None:
    path = _path(pipeline, day)
    return Build.model_validate_json(lake.objects.get(path)) if lake.objects.exists(path) else None


def _path(pipeline: Pipeline, day: date) -> str:
    return f"feature_builds/{pipeline.pipeline}/{day.isoformat()}.json"


def _rows(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(table)


def _table(features: pl.DataFrame, definitions: Definitions) -> pa.Table:
    """Arrow in the table's own types, whatever Polars prefers for strings."""
    moment = pa.timestamp("us", "UTC")
    types = dict.fromkeys(TIMES, moment)
    types |= {name: pa.float64() for name in definitions.numeric}
    names: Iterable[str] = features.columns
    return features.to_arrow().cast(pa.schema([(name, types.get(name, pa.string())) for name in names]))
