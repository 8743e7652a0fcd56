"""PostgreSQL as a source: one read-only snapshot a read, streamed in Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi

from evergreen.errors import ConfigurationError, DataError
from evergreen.ingestion.queries import (
    COLUMNS,
    SET_INTERVAL,
    Query,
    SourceTable,
    events_query,
    freshness_query,
    labels_query,
)
from evergreen.ingestion.source import Extract, Freshness, Source
from evergreen.ingestion.sql_errors import connecting, querying, table_missing
from evergreen.lake.lake import end_of, start_of
from evergreen.pipeline import Pipeline

CONNECT_TIMEOUT_SECONDS = 10


def open_source(pipeline: Pipeline, url: str) -> Source:
    """The pipeline's source in the PostgreSQL at `url`; nothing is connected before the first read.

    `url` is a libpq or SQLAlchemy URL, or one of Airflow's: postgresql://, postgresql+psycopg2:// or
    postgres://, with ?host=/socket/folder if need be. Raises ConfigurationError on any other.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise _not_a_url("text that is no URL") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise _not_a_url(f"{parsed.get_backend_name()}://")
    if "@" in (parsed.host or ""):
        raise _not_a_url("an @ in the host, perhaps of a password that is not percent-encoded")
    parsed = parsed.set(drivername="postgresql").difference_update_query(["__extra__"])
    defaults = {"connect_timeout": str(CONNECT_TIMEOUT_SECONDS), "application_name": "evergreen"}
    parsed = parsed.update_query_dict({k: v for k, v in defaults.items() if k not in parsed.query})
    host = parsed.query.get("host", parsed.host or "localhost")
    return PostgresSource(
        pipeline=pipeline,
        url=_for_libpq(parsed.render_as_string(hide_password=False)),
        where=f"{parsed.database} at {host}" + (f":{parsed.port}" if parsed.port else ""),
    )


@dataclass(frozen=True, kw_only=True)
class PostgresSource:
    """A pipeline's tables in one PostgreSQL database."""

    pipeline: Pipeline
    url: str = field(repr=False)
    """libpq's URL, password included."""
    where: str
    """Database and host, for messages."""

    @property
    def events(self) -> str:
        """The events' table."""
        return f"table {self.pipeline.source.table}"

    @contextmanager
    def read_day(self, day: date) -> Iterator[Extract]:
        """See `Source.read_day`."""
        with self._table(self.pipeline.source.table, day, day) as (cursor, table):
            yield self._extract(cursor, table, events_query(self.pipeline, table))

    @contextmanager
    def read_labels(self, day: date) -> Iterator[Extract]:
        """See `Source.read_labels`; DataError when a value is neither 0 nor 1."""
        with self._table(self.pipeline.label.table, day, day) as (cursor, table):

            def checked(batch: pa.RecordBatch) -> pa.RecordBatch:
                _require_labels(batch, f"Labels of {day} in table {table.name}")
                return batch

            yield self._extract(cursor, table, labels_query(self.pipeline, table), checked)

    def freshness(self, first: date, last: date) -> dict[date, Freshness]:
        """See `Source.freshness`."""
        with self._table(self.pipeline.source.table, first, last) as (cursor, table), querying(self.where, table.name):
            cursor.execute(freshness_query(self.pipeline, table))
            return {day: Freshness(rows=rows, known_at=known_at) for day, rows, known_at in cursor.fetchall()}

    @contextmanager
    def _table(self, name: str, first: date, last: date) -> Iterator[tuple[dbapi.Cursor, SourceTable]]:
        """A snapshot whose interval is set, and the table as that snapshot has it."""
        with connecting(self.where):
            connection = dbapi.connect(self.url)
        with connection, connection.cursor() as cursor:
            with querying(self.where, name):
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute("SET LOCAL TIME ZONE 'UTC'")
                cursor.execute(SET_INTERVAL, (start_of(first).isoformat(), end_of(last).isoformat()))
                cursor.execute(COLUMNS, (SourceTable(name=name, types={}).quoted,))
                columns = cursor.fetchall()
            if not columns:
                raise table_missing(name, self.where)
            yield cursor, SourceTable(name=name, types={c: "text" if enum else t for c, t, enum in columns})

    def _extract(
        self,
        cursor: dbapi.Cursor,
        table: SourceTable,
        query: Query,
        check: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
    ) -> Extract:
        with querying(self.where, table.name):
            cursor.execute(query.count)
            (rows,) = cursor.fetchone() or (0,)
            cursor.execute(query.sql)
            reader = cursor.fetch_record_batch()

        def batches() -> Iterator[pa.RecordBatch]:
            while True:
                with querying(self.where, table.name):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield check(batch).cast(query.schema)

        return Extract(rows=rows, batches=pa.RecordBatchReader.from_batches(query.schema, batches()))


def _require_labels(batch: pa.RecordBatch, thing: str) -> None:
    values = batch["value"]
    wrong = pc.unique(values.filter(pc.invert(pc.is_in(values, pa.array([0, 1], values.type)))))
    if len(wrong):
        raise DataError(
            thing,
            found=f"values {wrong.to_pylist()[:5]}",
            wanted="0 or 1",
            remedy="Mend the label column at the source, or name another in label.value.",
        )


def _for_libpq(url: str) -> str:
    """The URL with the blanks of its query as %20: SQLAlchemy writes a plus, which libpq reads as one."""
    head, mark, query = url.partition("?")
    return f"{head}{mark}{query.replace('+', '%20')}"


def _not_a_url(found: str) -> ConfigurationError:
    return ConfigurationError(
        "URL of the source database",
        found=found,
        wanted="postgresql://user:password@host:port/database, with @ : / in a password as %40 %3A %2F",
        remedy="Correct the connection that the spec's source.connection names.",
    )
