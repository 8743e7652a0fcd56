"""Source to raw: a day replaced whole in one commit, and earlier days again when late rows came."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow.compute as pc

from evergreen.artifacts import RawBatch, TableDay
from evergreen.errors import DataError
from evergreen.ingestion.counted import counted
from evergreen.ingestion.labels import ingest_labels
from evergreen.ingestion.overwritten import with_overwritten
from evergreen.ingestion.source import Freshness, Source
from evergreen.lake.lake import Lake
from evergreen.lake.tables import DayTable
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)


def ingest_day(pipeline: Pipeline, source: Source, day: date, lake: Lake, missed: Sequence[date] = ()) -> RawBatch:
    """The day as the source has it now, labels reported on it, `missed` days, and earlier ones that late rows changed.

    Every day is one commit, or none when the lake already holds just these rows. Labels come first: a day
    without events has them too. Raises DataError when the source has no row of the day or sent another
    number of rows than it counted; nothing is written of that day's events then, nor of earlier ones, which
    nobody would judge: the next day with events looks at them. A missed day without rows is left out.
    Passes on what the source and the lake raise.
    """
    started = time.perf_counter()
    raw = lake.table("raw", pipeline.pipeline)
    late = _late_days(pipeline, day, raw, missed)
    labels = ingest_labels(pipeline, source, day, lake, [*missed, *(d.day for d in late)])
    ingested = _read(pipeline, source, day, raw)
    if ingested is None:
        raise _empty(source, day)
    # Changed days come last, since a second try would not find them changed: then validation must.
    made_up = [now for d in missed if (now := _latest(pipeline, source, d, raw)) is not None]
    again = [now for d in late if (now := _latest(pipeline, source, d.day, raw)) and now.digest != d.digest]
    logger.info(
        "ingested %s of %s: %d rows, %d labels, made up for %s, read again %s, %.1f s",
        day,
        source.events,
        ingested.rows,
        labels.rows,
        [str(d.day) for d in made_up] or "no day",
        [str(d.day) for d in again] or "no earlier day",
        time.perf_counter() - started,
    )
    return RawBatch(pipeline=pipeline.pipeline, day=day, days=(ingested, *made_up, *again), labels=labels)


def _late_days(pipeline: Pipeline, day: date, raw: DayTable, missed: Sequence[date]) -> list[TableDay]:
    """The days before that late rows may have changed, newest first; days that the lake does not have do not count."""
    before = [d for d in raw.days(last=day - timedelta(days=1)) if d.day not in missed]
    return before[::-1][: pipeline.source.late_days]


def _latest(pipeline: Pipeline, source: Source, day: date, raw: DayTable) -> TableDay | None:
    """The day after it was read, unless the lake has it already as the source does; None when neither has a row."""
    in_lake = raw.day(day)
    fresh = in_lake is not None and not _changed(source, in_lake, raw)
    return in_lake if fresh else _read(pipeline, source, day, raw)


def _read(pipeline: Pipeline, source: Source, day: date, raw: DayTable) -> TableDay | None:
    """The day as the source has it now, with what the lake knew before; None, and the lake as it was, without rows."""
    with source.read_day(day) as extract:
        if extract.rows == 0:
            return None
        rows = counted(extract, f"Events of {day}")
        if raw.day(day) is None:
            return raw.replace_day(day, rows)
        with raw.scan([day]) as before:
            return raw.replace_day(day, with_overwritten(rows, before, pipeline.contract.key))


def _changed(source: Source, day: TableDay, raw: DayTable) -> bool:
    """Whether the source has rows of the day in another state than the lake.

    A row edited in place without a new known_at and without a change in number goes unseen: the
    source's contract is that known_at moves when a row does. A day with overwritten versions has more rows
    than the source and is read each time.
    """
    now = source.freshness(day.day, day.day).get(day.day)
    if now is None:
        logger.warning("%s no longer has rows of %s; the lake keeps its %d", source.events, day.day, day.rows)
    return now is not None and now != _freshness(raw, day)


def _freshness(raw: DayTable, day: TableDay) -> Freshness:
    known_at = raw.read([day.day], ["known_at"])["known_at"]
    return Freshness(rows=day.rows, known_at=pc.max(known_at).as_py())


def _empty(source: Source, day: date) -> DataError:
    return DataError(
        f"Day {day} of {source.events}",
        found="no rows",
        wanted="at least one event",
        remedy="Check that the source was loaded for that day, then run the task again; no event was written.",
    )
