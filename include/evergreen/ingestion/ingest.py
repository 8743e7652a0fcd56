"""Source to raw: a day replaced whole in one commit, and earlier days again when late rows came."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from evergreen.artifacts import RawBatch, TableDay
from evergreen.errors import DataError
from evergreen.ingestion.source import Extract, Freshness, Source
from evergreen.lake.lake import Lake
from evergreen.lake.tables import DayTable
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)


def ingest_day(pipeline: Pipeline, source: Source, day: date, lake: Lake) -> RawBatch:
    """The day as the source has it now, the labels reported on it, and earlier days that late rows changed.

    Every day is one commit, or none when the lake already holds just these rows. Raises DataError when
    the source has no row of the day or sent another number of rows than it counted; nothing is written
    of that day then. Passes on what the source and the lake raise.
    """
    started = time.perf_counter()
    raw = lake.table("raw", pipeline.pipeline)
    ingested = _ingest_events(source, day, raw)
    with source.read_labels(day) as extract:
        labels = lake.table("labels", pipeline.pipeline).replace_day(day, _counted(extract, f"Labels of {day}"))
    again = [_ingest_events(source, late, raw) for late in _changed_days(pipeline, source, day, raw)]
    logger.info(
        "ingested %s of %s: %d rows, %d labels, read again %s, %.1f s",
        day,
        source.events,
        ingested.rows,
        labels.rows,
        [str(d.day) for d in again] or "no earlier day",
        time.perf_counter() - started,
    )
    return RawBatch(pipeline=pipeline.pipeline, day=day, days=(ingested, *again), labels=labels)


def _ingest_events(source: Source, day: date, raw: DayTable) -> TableDay:
    with source.read_day(day) as extract:
        if extract.rows == 0:
            raise _empty(source, day)
        return raw.replace_day(day, _counted(extract, f"Events of {day}"))


def _counted(extract: Extract, thing: str) -> pa.RecordBatchReader:
    """The extract's batches; ends in DataError, before any commit, unless all counted rows came."""

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in extract.batches:
            rows += batch.num_rows
            logger.debug("%s: %d of %d rows", thing, rows, extract.rows)
            yield batch
        if rows != extract.rows:
            raise DataError(
                thing,
                found=f"{rows} rows in the stream",
                wanted=f"{extract.rows} rows, as the source counted in the same snapshot",
                remedy="Nothing was written; run the task again, and report it if it happens twice.",
            )

    return pa.RecordBatchReader.from_batches(extract.batches.schema, batches())


def _changed_days(pipeline: Pipeline, source: Source, day: date, raw: DayTable) -> list[date]:
    """Earlier days of the lake, within the declared window, that the source has in another state now.

    A row edited in place without a new known_at and without a change in number goes unseen: the
    source's contract is that known_at moves when a row does.
    """
    if pipeline.source.late_days == 0:
        return []
    first, last = day - timedelta(days=pipeline.source.late_days), day - timedelta(days=1)
    in_lake = raw.days(first, last)
    if not in_lake:
        return []
    now = source.freshness(first, last)
    for gone in (d for d in in_lake if d.day not in now):
        logger.warning("%s no longer has rows of %s; the lake keeps its %d", source.events, gone.day, gone.rows)
    return [d.day for d in in_lake if d.day in now and _freshness(raw, d) != now[d.day]]


def _freshness(raw: DayTable, day: TableDay) -> Freshness:
    known_at = raw.scan([day.day]).to_table(columns=["known_at"])["known_at"]
    return Freshness(rows=day.rows, known_at=pc.max(known_at).as_py())


def _empty(source: Source, day: date) -> DataError:
    return DataError(
        f"Day {day} of {source.events}",
        found="no rows",
        wanted="at least one event",
        remedy="Check that the source was loaded for that day, then run the task again; nothing was written.",
    )
