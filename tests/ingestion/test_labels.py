"""Labels that the source shows only later join the day they were reported on, and rewrite nothing."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from evergreen.errors import DataError
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.source import Source
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake, end_of
from evergreen.pipeline import Pipeline

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)
LABEL = "INSERT INTO chargebacks VALUES (%(key)s, %(at)s, '')"


@pytest.fixture
def source(database, fraud: Pipeline) -> Source:
    """A source with an event a day."""
    for day in range(1, 8):
        database.add(f"event {day}", f"2026-11-0{day} 05:00:00+00")
    return open_source(fraud, database.url)


def known(lake: Lake, day: date) -> list[str | None]:
    """Keys of the labels that were known when the day ended."""
    labels = lake.read("labels", "fraud", as_of=end_of(day), until=end_of(day)).read_all()
    return sorted(labels["key"].to_pylist(), key=str)


def test_label_that_shows_after_its_day_was_ingested_joins_it(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    database.run(LABEL, key="prompt", at="2026-11-02 23:59+00")
    ingest_day(fraud, source, DAY, lake)
    database.run(LABEL, key="late", at="2026-11-02 23:58+00")
    ingest_day(fraud, source, NEXT, lake)
    assert known(lake, DAY) == ["late", "prompt"]


def test_label_of_a_date_without_a_time_joins_its_day(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.run("ALTER TABLE chargebacks ALTER COLUMN reported_at TYPE date")
    ingest_day(fraud, source, DAY, lake)
    database.run(LABEL, key="by date", at="2026-11-02")
    ingest_day(fraud, source, NEXT, lake)
    assert known(lake, DAY) == ["by date"]


def test_days_without_new_labels_make_no_commit(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    for key in ("twice", "twice", None):
        database.run(LABEL, key=key, at="2026-11-02 12:00+00")
    ingest_day(fraud, source, DAY, lake)
    first = ingest_day(fraud, source, NEXT, lake)
    assert ingest_day(fraud, source, NEXT, lake) == first
    assert known(lake, DAY) == [None, "twice", "twice"]


def test_label_that_the_source_rewrote_stays_as_it_was_known(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    database.run(LABEL, key="disputed", at="2026-11-02 12:00+00")
    ingest_day(fraud, source, DAY, lake)
    database.run("UPDATE chargebacks SET reported_at = '2026-11-03 09:00+00'")
    database.run(LABEL, key="late", at="2026-11-02 13:00+00")
    ingest_day(fraud, source, NEXT, lake)
    assert known(lake, DAY) == ["disputed", "late"]
    assert known(lake, NEXT) == ["disputed", "disputed", "late"]


def test_day_itself_read_again_has_the_labels_of_now(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    database.run(LABEL, key="by mistake", at="2026-11-02 12:00+00")
    ingest_day(fraud, source, DAY, lake)
    database.run("UPDATE chargebacks SET transaction_id = 'mended'")
    ingest_day(fraud, source, DAY, lake)
    assert known(lake, DAY) == ["mended"]


def test_day_without_events_is_refused_with_its_labels_read(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    empty = date(2026, 11, 8)
    database.run(LABEL, key="holiday", at="2026-11-08 12:00+00")
    with pytest.raises(DataError, match="found no rows"):
        ingest_day(fraud, source, empty, lake)
    assert known(lake, empty) == ["holiday"]


def test_label_later_than_the_late_window_is_not_looked_for(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    for day in (DAY, NEXT, NEXT + timedelta(days=1)):
        ingest_day(fraud, source, day, lake)
    database.run(LABEL, key="too late", at="2026-11-02 12:00+00")
    ingest_day(fraud, source, DAY + timedelta(days=3), lake)
    assert known(lake, DAY) == []


def test_label_of_the_last_day_that_the_lake_has_joins_it_whatever_lies_between(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    ingest_day(fraud, source, DAY, lake)
    database.run(LABEL, key="late", at="2026-11-02 12:00+00")
    ingest_day(fraud, source, DAY + timedelta(days=4), lake)
    assert known(lake, DAY) == ["late"]
