"""Writing sample days into PostgreSQL, each in one transaction that replaces what it had of that day."""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

import adbc_driver_manager
import polars as pl
from adbc_driver_postgresql import dbapi

from evergreen.errors import ConfigurationError, SourceUnavailable
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import SampleDay, simulate_day

logger = logging.getLogger(__name__)

WRITER_LOCK: Final = 7_340_911_823
"""Advisory lock that makes writers of sample days take turns; any constant that nobody else uses."""

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS transactions (
        transaction_id text, card_id text, customer_id text, merchant_id text, amount_cents bigint, currency text,
        mcc text, merchant_country text, card_country text, channel text, device_id text,
        event_time timestamptz, known_at timestamptz)""",
    "CREATE INDEX IF NOT EXISTS transactions_event_time ON transactions (event_time)",
    "CREATE TABLE IF NOT EXISTS chargebacks (transaction_id text, reported_at timestamptz, reason text)",
    "CREATE INDEX IF NOT EXISTS chargebacks_reported_at ON chargebacks (reported_at)",
)
"""No primary key on transactions: a source that sends a row twice is what ingestion must cope with."""


def write_days(
    url: str,
    config: SampleConfig,
    first: date,
    last: date,
    *,
    known_until: datetime | None = None,
    on_progress: Callable[[date, int], None] | None = None,
) -> int:
    """The number of rows written to `transactions` and `chargebacks` for the days `first` to `last`, both included.

    A day replaces itself, so writing again is harmless, and with a later `known_until` adds what became known since:
    transactions by `known_at`, chargebacks by `reported_at`. None writes all, also what is reported after `last`.
    `on_progress` hears of each finished day and its rows. `url` is any postgresql:// URL, with or without a driver.

    Raises ConfigurationError for dates in the wrong order or a naive `known_until`, SourceUnavailable when the
    database does not answer; finished days stay written.
    """
    _check(first, last, known_until)
    written = 0
    try:
        with dbapi.connect(_libpq(url)) as connection:
            for offset in range((last - first).days + 1):
                day = first + timedelta(days=offset)
                rows = _write_day(connection, day, known_by(simulate_day(config, day), known_until))
                written += rows
                if on_progress is not None:
                    on_progress(day, rows)
    except adbc_driver_manager.OperationalError as error:
        raise _unavailable(url, error) from error
    return written


def known_by(sample: SampleDay, known_until: datetime | None) -> SampleDay:
    """The part of a day that the source has learned by then; all of it for None."""
    if known_until is None:
        return sample
    return SampleDay(
        transactions=sample.transactions.filter(pl.col("known_at") <= known_until),
        chargebacks=sample.chargebacks.filter(pl.col("reported_at") <= known_until),
        truth=sample.truth,
    )


def _write_day(connection: dbapi.Connection, day: date, sample: SampleDay) -> int:
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
        for statement in TABLES:
            cursor.execute(statement)
        _delete_day(cursor, day)
        cursor.adbc_ingest("transactions", sample.transactions.to_arrow(), mode="append")
        cursor.adbc_ingest("chargebacks", sample.chargebacks.to_arrow(), mode="append")
    connection.commit()
    rows = sample.transactions.height + sample.chargebacks.height
    logger.info("wrote sample day %s: %d rows in %.2f s", day, rows, time.perf_counter() - started)
    return rows


def _delete_day(cursor: dbapi.Cursor, day: date) -> None:
    """Clear the day; its chargebacks are known by their ids and by being reported within three days."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    cursor.execute(
        "DELETE FROM transactions WHERE event_time >= $1 AND event_time < $2", (start, start + timedelta(days=1))
    )
    cursor.execute(
        "DELETE FROM chargebacks WHERE reported_at >= $1 AND reported_at < $2 AND starts_with(transaction_id, $3)",
        (start, start + timedelta(days=5), f"{day:%Y%m%d}-"),
    )


def _libpq(url: str) -> str:
    """The URL without SQLAlchemy's driver: postgresql+psycopg2:// becomes postgresql://."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


def _check(first: date, last: date, known_until: datetime | None) -> None:
    if last < first:
        raise ConfigurationError(
            "the range of sample days",
            found=f"{first} to {last}",
            wanted="a first day that is not after the last",
            remedy="Swap the two dates.",
        )
    if known_until is not None and known_until.tzinfo is None:
        raise ConfigurationError(
            "known_until",
            found=f"{known_until} without a time zone",
            wanted="an aware time",
            remedy="Pass it in UTC.",
        )


def _unavailable(url: str, error: Exception) -> SourceUnavailable:
    return SourceUnavailable(
        "the sample database",
        found=f"{_without_password(url)} does not answer",
        wanted="a running PostgreSQL",
        remedy="Start it, or correct the URL, and write the days again: finished ones replace themselves.",
        details=str(error),
    )


def _without_password(url: str) -> str:
    return re.sub(r"(?<=:)[^:@/]+(?=@)", "***", url)
