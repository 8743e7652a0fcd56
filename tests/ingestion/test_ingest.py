"""A day of the source becomes a day of the lake: whole, once, and again when late rows come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from evergreen.errors import DataError, LakeUnavailable
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.source import Extract, Source
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake, end_of
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.samples.simulator import simulate_day

DAY = date(2026, 11, 2)
BEFORE = date(2026, 11, 1)


@pytest.fixture
def source(database, fraud: Pipeline) -> Source:
    return open_source(fraud, database.url)


def keys(lake: Lake, day: date = DAY) -> list[str]:
    return lake.table("raw", "fraud").read([day])["transaction_id"].to_pylist()


def test_day_is_half_open_at_both_midnights(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    for key, moment in (
        ("before", "2026-11-01 23:59:59.999999+00"),
        ("first", "2026-11-02 00:00:00+00"),
        ("last", "2026-11-02 23:59:59.999999+00"),
        ("after", "2026-11-03 00:00:00+00"),
    ):
        database.add(key, moment)
    batch = ingest_day(fraud, source, DAY, lake)
    assert keys(lake) == ["first", "last"]
    assert [d.rows for d in batch.days] == [2]


def test_rows_carry_both_times_in_utc(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.add("a", "2026-11-02 01:30:00+01", known_at="2026-11-02 02:00:00+01")
    ingest_day(fraud, source, DAY, lake)
    row = lake.table("raw", "fraud").read([DAY])
    assert row.schema.field("event_time").type == pa.timestamp("us", "UTC")
    assert row["event_time"][0].as_py() == datetime(2026, 11, 2, 0, 30, tzinfo=UTC)
    assert row["known_at"][0].as_py() == datetime(2026, 11, 2, 1, 0, tzinfo=UTC)


def test_rows_come_sorted_by_event_time_key_known_at(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.add("b", "2026-11-02 05:00:00+00")
    database.add("a", "2026-11-02 05:00:00+00", known_at="2026-11-02 07:00:00+00", amount=2)
    database.add("a", "2026-11-02 05:00:00+00", known_at="2026-11-02 06:00:00+00", amount=1)
    database.add("Z", "2026-11-02 05:00:00+00")
    database.add("z", "2026-11-02 04:00:00+00")
    ingest_day(fraud, source, DAY, lake)
    assert keys(lake) == ["z", "Z", "a", "a", "b"]
    assert lake.table("raw", "fraud").read([DAY])["amount_cents"].to_pylist()[2:4] == [1, 2]


def test_running_again_writes_the_same_bytes_and_no_commit(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    for number in range(20):
        database.add(f"k{number % 7}", "2026-11-02 05:00:00+00", amount=number % 3)
    database.run("INSERT INTO chargebacks VALUES ('k1', '2026-11-02 09:00+00', 'stolen')")
    first = ingest_day(fraud, source, DAY, lake)
    database.run("UPDATE transactions SET currency = currency")  # moves every row in the heap
    assert ingest_day(fraud, source, DAY, lake) == first


def test_rows_of_the_day_that_changed_replace_the_day(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.add("a", "2026-11-02 05:00:00+00")
    first = ingest_day(fraud, source, DAY, lake)
    database.add("b", "2026-11-02 06:00:00+00")
    second = ingest_day(fraud, source, DAY, lake)
    assert keys(lake) == ["a", "b"]
    assert second.days[0].version == first.days[0].version + 1


def test_labels_lie_on_the_day_they_were_reported(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.add("a", "2026-11-02 05:00:00+00")
    database.run(
        "INSERT INTO chargebacks VALUES ('old', '2026-11-02 00:00+00', ''), ('late', '2026-11-03 00:00+00', '')"
    )
    batch = ingest_day(fraud, source, DAY, lake)
    labels = lake.table("labels", "fraud").read([DAY])
    assert labels.to_pylist() == [
        {
            "key": "old",
            "value": 1,
            "event_time": datetime(2026, 11, 2, tzinfo=UTC),
            "known_at": datetime(2026, 11, 2, tzinfo=UTC),
        }
    ]
    assert labels.schema.field("value").type == pa.int8()
    assert batch.labels is not None
    assert batch.labels.rows == 1


def test_late_rows_make_their_earlier_day_be_read_again(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.add("early", "2026-11-01 05:00:00+00")
    database.add("today", "2026-11-02 05:00:00+00")
    ingest_day(fraud, source, BEFORE, lake)
    database.add("late", "2026-11-01 06:00:00+00", known_at="2026-11-02 03:00:00+00")
    batch = ingest_day(fraud, source, DAY, lake)
    assert [d.day for d in batch.days] == [DAY, BEFORE]
    assert keys(lake, BEFORE) == ["early", "late"]


def test_revision_without_a_new_row_is_seen_by_its_known_at(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    database.add("early", "2026-11-01 05:00:00+00")
    database.add("today", "2026-11-02 05:00:00+00")
    ingest_day(fraud, source, BEFORE, lake)
    database.run("UPDATE transactions SET amount_cents = 7, known_at = '2026-11-02+00' WHERE transaction_id = 'early'")
    assert [d.day for d in ingest_day(fraud, source, DAY, lake).days] == [DAY, BEFORE]
    assert lake.table("raw", "fraud").read([BEFORE])["amount_cents"].to_pylist() == [7, 100]


def test_unchanged_and_never_ingested_earlier_days_are_left_alone(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    for key, day in (("never", "2026-10-31"), ("same", "2026-11-01"), ("today", "2026-11-02")):
        database.add(key, f"{day} 05:00:00+00")
    ingest_day(fraud, source, BEFORE, lake)
    assert [d.day for d in ingest_day(fraud, source, DAY, lake).days] == [DAY]
    assert lake.table("raw", "fraud").day(date(2026, 10, 31)) is None


def test_days_beyond_the_late_window_are_not_looked_at(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    for key, day in (("old", "2026-10-30"), ("older", "2026-10-31"), ("early", "2026-11-01"), ("today", "2026-11-02")):
        database.add(key, f"{day} 05:00:00+00")
    for day in (date(2026, 10, 30), date(2026, 10, 31), BEFORE):
        ingest_day(fraud, source, day, lake)
    database.add("too late", "2026-10-30 06:00:00+00", known_at="2026-11-02 05:00:00+00")
    assert [d.day for d in ingest_day(fraud, source, DAY, lake).days] == [DAY]


def test_late_row_of_a_friday_is_seen_by_the_next_day_with_events(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    friday = date(2026, 10, 30)
    database.add("friday", "2026-10-30 05:00:00+00")
    database.add("monday", "2026-11-02 05:00:00+00")
    ingest_day(fraud, source, friday, lake)
    database.add("late", "2026-10-30 06:00:00+00", known_at="2026-10-31 05:00:00+00")
    for closed in (date(2026, 10, 31), BEFORE):
        with pytest.raises(DataError, match="found no rows"):
            ingest_day(fraud, source, closed, lake)
    assert [d.day for d in ingest_day(fraud, source, DAY, lake).days] == [DAY, friday]
    assert keys(lake, friday) == ["friday", "late"]


def test_day_that_vanished_from_the_source_stays_in_the_lake(
    database, source: Source, fraud: Pipeline, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    database.add("kept", "2026-11-01 05:00:00+00")
    database.add("today", "2026-11-02 05:00:00+00")
    ingest_day(fraud, source, BEFORE, lake)
    database.run("DELETE FROM transactions WHERE transaction_id = 'kept'")
    assert [d.day for d in ingest_day(fraud, source, DAY, lake).days] == [DAY]
    assert keys(lake, BEFORE) == ["kept"]
    assert "no longer has rows of 2026-11-01" in caplog.text


def test_empty_day_is_refused_and_no_event_is_written(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    with pytest.raises(DataError, match=r"Day 2026-11-02 of table transactions: found no rows, wanted at least one"):
        ingest_day(fraud, source, DAY, lake)
    assert not lake.table("raw", "fraud").exists()


class ShortSource:
    """A source whose stream ends one row early."""

    events = "table transactions"

    @contextmanager
    def read_day(self, day: date) -> Iterator[Extract]:
        rows = pa.table({"transaction_id": ["a"], "known_at": pa.array([0], pa.timestamp("us", "UTC"))})
        yield Extract(rows=2, batches=rows.to_reader())

    read_labels = read_day


def test_stream_shorter_than_its_count_is_never_committed(fraud: Pipeline, lake: Lake) -> None:
    with pytest.raises(DataError, match="found 1 rows in the stream, wanted 2 rows"):
        ingest_day(fraud, ShortSource(), DAY, lake)  # type: ignore[arg-type]
    assert lake.table("raw", "fraud").day(DAY) is None


def test_unwritable_lake_is_said_plainly(database, source: Source, fraud: Pipeline, tmp_path: Path) -> None:
    database.add("a", "2026-11-02 05:00:00+00")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LakeUnavailable, match="nothing was half-written"):
        ingest_day(fraud, source, DAY, Lake((tmp_path / "file" / "lake").as_uri()))


def test_sample_days_arrive_whole_and_late_rows_catch_up(empty_database, fraud: Pipeline, lake: Lake) -> None:
    """What the sample source learns of a day by its end comes first, the rest when the next day is ingested."""
    url = empty_database.url
    config = SampleConfig(rows_per_day=2000)
    write_days(url, config, BEFORE, BEFORE, known_until=end_of(BEFORE))
    source = open_source(fraud, url)
    first = ingest_day(fraud, source, BEFORE, lake)
    write_days(url, config, BEFORE, DAY, known_until=end_of(DAY))
    second = ingest_day(fraud, source, DAY, lake)
    learned = simulate_day(config, BEFORE).transactions.filter(pl.col("known_at") <= end_of(DAY)).height
    assert [d.day for d in second.days] == [DAY, BEFORE]
    assert second.days[1].rows == learned > first.days[0].rows
