"""Labels to the lake: those reported on the day, and those of earlier days that the source showed only later.

A late label joins the day it was reported on, and what was known of that day stays, whatever the source has made of it
since: an earlier instant keeps showing what was known then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, timedelta

import pyarrow as pa

from evergreen.artifacts import TableDay
from evergreen.ingestion.counted import counted
from evergreen.ingestion.source import Source
from evergreen.lake.lake import Lake
from evergreen.lake.tables import DayTable, days_between
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)


def ingest_labels(pipeline: Pipeline, source: Source, day: date, lake: Lake, others: Iterable[date] = ()) -> TableDay:
    """The labels reported on the day as the source has them now, after late ones joined the days before and `others`.

    Days to which nothing was added make no commit, but of `others` those that were never read. Passes on what the
    source and the lake raise, and DataError when another number of labels came than was counted.
    """
    labels = lake.table("labels", pipeline.pipeline)
    window = days_between(day - timedelta(days=pipeline.source.late_days), day - timedelta(days=1))
    asked = set(others)
    for late in sorted({*window, *asked}):
        _add_late(source, late, labels, note_empty=late in asked)
    with source.read_labels(day) as extract:
        return labels.replace_day(day, counted(extract, f"Labels of {day}"))


def _add_late(source: Source, day: date, labels: DayTable, *, note_empty: bool) -> None:
    """Adds what came late; with `note_empty`, a day without labels is there too: training asks whether it was read."""
    with source.read_labels(day) as extract:
        found = counted(extract, f"Labels of {day}").read_all()
    # Arrow joins no null with another; a label without a key, which is nobody's, would be new every time.
    new = found.filter(found["key"].is_valid())
    if labels.day(day) is not None:
        new = _without(new, labels.read([day]))
    if note_empty and not new.num_rows and labels.day(day) is None:
        labels.replace_day(day, new)
    if new.num_rows:
        labels.append_day(day, new)
        logger.info("%d labels of %s came late", new.num_rows, day)


def _without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows that are not among `others`, in the order in which sources send labels."""
    left = rows.join(others, keys=rows.schema.names, join_type="left anti")
    return left.sort_by([(name, "ascending") for name in ("event_time", "key", "value")])
