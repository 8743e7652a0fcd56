"""The lake by URL: which table or object is where, and the only reader of history."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from evergreen.errors import ConfigurationError
from evergreen.lake.objects import LocalObjects, Objects
from evergreen.lake.s3_objects import S3Objects
from evergreen.lake.s3_options import S3Options
from evergreen.lake.tables import DayTable

ZONES = ("raw", "labels", "clean", "quarantine", "features", "predictions")


@dataclass(frozen=True)
class Lake:
    """A lake at `url`; tables are `<zone>/<pipeline>`, everything else is a plain object.

    raw/ labels/ clean/ quarantine/ features/ predictions/     Delta tables by day
    training_sets/ models/ evaluations/ reports/ sketches/     immutable objects
    receipts/ deployments/                                     small JSON
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def objects(self) -> Objects:
        """The lake's plain objects."""
        parts = urlsplit(self.url)
        if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
            return LocalObjects(Path(unquote(parts.path)))
        if parts.scheme == "s3" and parts.netloc and not parts.query and not parts.fragment:
            return S3Objects(parts.netloc, unquote(parts.path), S3Options.from_variables(self.options))
        raise ConfigurationError(
            "Lake URL",
            found=self.url,
            wanted="file:///absolute/path or s3://bucket/prefix",
            remedy="Correct EVERGREEN_LAKE_URL.",
        )

    def table(self, zone: str, pipeline: str) -> DayTable:
        """The table of `pipeline` in `zone`, whether it exists yet or not."""
        if zone not in ZONES:
            raise ValueError(f"{zone!r} is not one of {ZONES}")
        return DayTable(
            zone=zone,
            pipeline=pipeline,
            objects=self.objects,
            url=f"{self.url.rstrip('/')}/{zone}/{pipeline}",
            storage_options=self._storage_options,
        )

    @cached_property
    def _storage_options(self) -> dict[str, str]:
        if not self.url.startswith("s3://"):
            return {}
        options = S3Options.from_variables(self.options)
        if options.ca_bundle:  # deltalake takes the authorities to trust from this variable alone
            os.environ.setdefault("SSL_CERT_FILE", options.ca_bundle)
        return options.for_tables(self.options)

    def read(
        self,
        zone: str,
        pipeline: str,
        *,
        as_of: datetime,
        until: datetime,
        since: datetime | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.RecordBatchReader:
        """History as it was known at `as_of`: rows with since <= event_time < until, in day order.

        Rows with known_at > as_of are not there, nor versions already superseded at `as_of`. This is
        the only reader of history. Days never written are simply absent; of a table never written, the
        columns asked for have no type. Raises ValueError for a bound without a time zone.
        """
        _require_aware(as_of=as_of, until=until, since=since)
        table = self.table(zone, pipeline)
        first = since.astimezone(UTC).date() if since else date.min
        last = (until - timedelta(microseconds=1)).astimezone(UTC).date()
        if not table.exists():
            return _empty(columns)
        dataset = table.scan([d.day for d in table.days(first, last)])
        wanted = list(columns) if columns is not None else dataset.schema.names
        keep = known(dataset.schema, as_of=as_of) & (pc.field("event_time") < pa.scalar(until))
        if since is not None:
            keep &= pc.field("event_time") >= pa.scalar(since)
        return dataset.scanner(columns=wanted, filter=keep).to_reader()


def known(schema: pa.Schema, *, as_of: datetime) -> pc.Expression:
    """Filter for rows that were known, and not yet superseded, at `as_of`."""
    moment = pa.scalar(as_of)
    keep = pc.field("known_at") <= moment
    if "superseded_at" in schema.names:
        current = pc.field("superseded_at").is_null() | (pc.field("superseded_at") > moment)
        keep &= current
    return keep


def start_of(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first instant after a UTC day."""
    return start_of(day) + timedelta(days=1)


def _require_aware(**bounds: datetime | None) -> None:
    for name, bound in bounds.items():
        if bound is not None and bound.tzinfo is None:
            raise ValueError(f"{name}={bound.isoformat()} has no time zone; the lake takes aware times only")


def _empty(columns: Sequence[str] | None) -> pa.RecordBatchReader:
    schema = pa.schema([(name, pa.null()) for name in columns or ()])
    return schema.empty_table().to_reader()
