"""A table as it was known at an instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from evergreen.lake.tables import DayTable


def read_history(
    table: DayTable, *, as_of: datetime, until: datetime, since: datetime | None, columns: Sequence[str] | None
) -> pa.RecordBatchReader:
    """See `Lake.read`."""
    _require_aware(as_of=as_of, until=until, since=since)
    first = since.astimezone(UTC).date() if since else date.min
    last = (until - timedelta(microseconds=1)).astimezone(UTC).date()
    if not table.exists():
        return _empty(columns)
    with ExitStack() as opened:
        dataset = opened.enter_context(table.scan([d.day for d in table.days(first, last)]))
        wanted = list(columns) if columns is not None else dataset.schema.names
        keep = _known(dataset.schema, as_of=as_of) & (pc.field("event_time") < pa.scalar(until))
        if since is not None:
            keep &= pc.field("event_time") >= pa.scalar(since)
        scanned = dataset.scanner(columns=wanted, filter=keep).to_reader()
        return pa.RecordBatchReader.from_batches(scanned.schema, _batches(scanned, opened.pop_all()))


def _batches(scanned: pa.RecordBatchReader, opened: ExitStack) -> Iterator[pa.RecordBatch]:
    """The batches; the files stay until the last was read, or nobody wants it any more."""
    with opened, scanned:
        yield from scanned


def _known(schema: pa.Schema, *, as_of: datetime) -> pc.Expression:
    """Filter for rows that were known, and not yet superseded, at `as_of`."""
    moment = pa.scalar(as_of)
    keep = pc.field("known_at") <= moment
    if "superseded_at" in schema.names:
        current = pc.field("superseded_at").is_null() | (pc.field("superseded_at") > moment)
        keep &= current
    return keep


def _require_aware(**bounds: datetime | None) -> None:
    for name, bound in bounds.items():
        if bound is not None and bound.tzinfo is None:
            raise ValueError(f"{name}={bound.isoformat()} has no time zone; the lake takes aware times only")


def _empty(columns: Sequence[str] | None) -> pa.RecordBatchReader:
    schema = pa.schema([(name, pa.null()) for name in columns or ()])
    return schema.empty_table().to_reader()
