"""What every kind of source can do: give a day, its labels, and a cheap look at whether days changed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Extract:
    """Rows on their way out of a source."""

    rows: int
    """Rows the source itself counted, in the very snapshot that `batches` come from."""
    batches: pa.RecordBatchReader
    """Streamed, so memory is one batch; valid only while the extract is open."""


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """What tells one state of a day from another without reading the day."""

    rows: int
    known_at: datetime | None
    """Latest `known_at`; None when no row has one."""


class Source(Protocol):
    """A place that events and labels come from. Days are UTC and half-open.

    All methods raise SourceUnavailable when it does not answer, ConfigurationError when it lacks
    what the spec names, DataError when a value cannot be read as its type.
    """

    @property
    def events(self) -> str:
        """What events come from, for messages: `table transactions`."""

    def read_day(self, day: date) -> AbstractContextManager[Extract]:
        """The day's events: contract columns, event_time, known_at; sorted by event_time, key, known_at."""

    def read_labels(self, day: date) -> AbstractContextManager[Extract]:
        """Labels reported on the day: key (string), value (int8, 0 or 1), event_time = known_at = when."""

    def freshness(self, first: date, last: date) -> dict[date, Freshness]:
        """Freshness of every day from `first` to `last` inclusive that has rows."""
