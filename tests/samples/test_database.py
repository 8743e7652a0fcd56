from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from evergreen.errors import ConfigurationError, SourceUnavailable
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.samples.simulator import simulate_day

Read = Callable[[str], pl.DataFrame]
CONFIG = SampleConfig(rows_per_day=1_000)
FIRST, LAST = date(2026, 10, 5), date(2026, 10, 7)
DAYS = [simulate_day(CONFIG, FIRST + timedelta(days=number)) for number in range(3)]
ALL_TRANSACTIONS = pl.concat([day.transactions for day in DAYS])
ALL_CHARGEBACKS = pl.concat([day.chargebacks for day in DAYS])


def assert_holds(read: Read, transactions: pl.DataFrame, chargebacks: pl.DataFrame) -> None:
    for table, wanted in (("transactions", transactions), ("chargebacks", chargebacks)):
        found = read(f"SELECT * FROM {table}").cast(wanted.schema)  # noqa: S608
        assert_frame_equal(found, wanted, check_row_order=False)


def test_days_are_written_as_simulated(url: str, read: Read) -> None:
    heard: list[tuple[date, int]] = []
    rows = write_days(url, CONFIG, FIRST, LAST, on_progress=lambda day, rows: heard.append((day, rows)))
    assert_holds(read, ALL_TRANSACTIONS, ALL_CHARGEBACKS)
    assert rows == ALL_TRANSACTIONS.height + ALL_CHARGEBACKS.height == sum(rows for _, rows in heard)
    assert [day for day, _ in heard] == [FIRST, FIRST + timedelta(days=1), LAST]


def test_columns_have_the_promised_types(url: str, read: Read) -> None:
    write_days(url, CONFIG, FIRST, FIRST)
    columns = read("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'transactions'")
    types = dict(columns.iter_rows())
    assert types.pop("amount_cents") == "bigint"
    assert types.pop("event_time") == types.pop("known_at") == "timestamp with time zone"
    assert set(types.values()) == {"text"}


def test_writing_a_day_again_changes_nothing(url: str, read: Read) -> None:
    write_days(url, CONFIG, FIRST, LAST)
    write_days(url, CONFIG, FIRST + timedelta(days=1), LAST)
    assert_holds(read, ALL_TRANSACTIONS, ALL_CHARGEBACKS)


def test_only_what_was_known_is_written_and_the_rest_follows(url: str, read: Read) -> None:
    until = datetime(2026, 10, 7, 12, tzinfo=UTC)
    write_days(url, CONFIG, FIRST, LAST, known_until=until)
    known, reported = ALL_TRANSACTIONS.filter(pl.col("known_at") <= until), pl.col("reported_at") <= until
    assert_holds(read, known, ALL_CHARGEBACKS.filter(reported))
    assert 0 < ALL_CHARGEBACKS.filter(reported).height < ALL_CHARGEBACKS.height
    write_days(url, CONFIG, FIRST, LAST)
    assert_holds(read, ALL_TRANSACTIONS, ALL_CHARGEBACKS)


def test_two_writers_of_the_same_days_leave_each_row_once(url: str, read: Read) -> None:
    writers = [threading.Thread(target=write_days, args=(url, CONFIG, FIRST, LAST)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert_holds(read, ALL_TRANSACTIONS, ALL_CHARGEBACKS)


def test_an_interruption_keeps_the_finished_days(url: str, read: Read) -> None:
    def interrupt(day: date, rows: int) -> None:
        if day == FIRST + timedelta(days=1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_days(url, CONFIG, FIRST, LAST, on_progress=interrupt)
    assert_holds(
        read,
        pl.concat([day.transactions for day in DAYS[:2]]),
        pl.concat([day.chargebacks for day in DAYS[:2]]),
    )


def test_queries_by_time_can_use_an_index(url: str, read: Read) -> None:
    write_days(url, CONFIG, FIRST, FIRST)
    indexes = read("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")["indexdef"].str.join(" ")[0]
    assert "transactions USING btree (event_time)" in indexes
    assert "chargebacks USING btree (reported_at)" in indexes


def test_an_sqlalchemy_url_is_understood(url: str) -> None:
    assert write_days(url.replace("postgresql://", "postgresql+psycopg2://"), CONFIG, FIRST, FIRST) > 900


def test_a_database_that_is_down_is_named_without_its_password() -> None:
    with pytest.raises(SourceUnavailable, match=r"postgresql://me:\*\*\*@127.0.0.1:1/source does not answer"):
        write_days("postgresql://me:secret@127.0.0.1:1/source", CONFIG, FIRST, LAST)


@pytest.mark.parametrize(
    ("last", "known_until", "named"),
    [(date(2026, 10, 4), None, "range of sample days"), (LAST, datetime(2026, 10, 7), "known_until")],  # noqa: DTZ001
    ids=["days reversed", "naive time"],
)
def test_impossible_requests_are_refused(last: date, known_until: datetime | None, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        write_days("postgresql:///nowhere", CONFIG, FIRST, last, known_until=known_until)
