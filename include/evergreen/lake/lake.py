"""The lake by URL: which table or object is where, and the only reader of history."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from evergreen.errors import ConfigurationError
from evergreen.lake.objects import LocalObjects, Objects
from evergreen.lake.s3_objects import S3Objects
from evergreen.lake.s3_options import S3Options

if TYPE_CHECKING:
    import pyarrow as pa

    from evergreen.lake.tables import DayTable

ZONES = ("raw", "labels", "clean", "quarantine", "features", "predictions")


@dataclass(frozen=True)
class Lake:
    """A lake at `url`; tables are `<zone>/<pipeline>`, everything else is a plain object.

    raw/ labels/ clean/ quarantine/ features/ predictions/     Delta tables by day
    training_sets/ models/ evaluations/ reports/ sketches/     immutable objects
    receipts/ deployments/ published/                          small JSON
    arrivals/ validated/ feature_builds/ trainings/            notes of what is still to be done, or was
    events/                                                    what serving replicas tell one another
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
        from evergreen.lake.tables import DayTable  # serving has neither Delta nor Arrow

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
        from evergreen.lake.history import read_history  # serving has neither Delta nor Arrow

        return read_history(self.table(zone, pipeline), as_of=as_of, until=until, since=since, columns=columns)


def start_of(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first instant after a UTC day."""
    return start_of(day) + timedelta(days=1)
