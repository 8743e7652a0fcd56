"""Nights when Airflow was down leave no holes: the next scheduled run reads their days too."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen.artifacts import RawBatch, TableDay
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.missed import missed_days
from evergreen.ingestion.source import Source
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake, end_of
from evergreen.orchestration import ingest_tasks, proof
from evergreen.pipeline import Pipeline
from evergreen.validation.validate import validate_day

FIRST = date(2026, 11, 2)
DAY = date(2026, 11, 6)
MISSED = [date(2026, 11, 3), date(2026, 11, 4), date(2026, 11, 5)]


@pytest.fixture
def small(fraud: Pipeline) -> Pipeline:
    """The pipeline with a day of a row allowed."""
    spec: dict[str, Any] = fraud.model_dump()
    spec["validation"] |= {"min_rows": 1}
    return Pipeline.model_validate(spec)


@pytest.fixture
def source(database, small: Pipeline) -> Source:
    """A source with an event a day, but none on 4 November."""
    for day in (2, 3, 5, 6):
        database.add(f"event {day}", f"2026-11-0{day} 05:00:00+00")
    return open_source(small, database.url)


def night(pipeline: Pipeline, source: Source, day: date, lake: Lake) -> list[date]:
    """Days that a whole scheduled run of `day` made clean."""
    batch = ingest_day(pipeline, source, day, lake, missed_days(pipeline, day, lake))
    return [day.day for day in validate_day(pipeline, batch, lake).days]


def days(lake: Lake, zone: str) -> list[TableDay]:
    return lake.table(zone, "fraud").days()


def test_missed_days_are_made_up_for_and_judged_in_the_same_run(source: Source, small: Pipeline, lake: Lake) -> None:
    assert night(small, source, FIRST, lake) == [FIRST]
    assert night(small, source, DAY, lake) == [DAY, MISSED[0], MISSED[2]]
    assert night(small, source, DAY, lake) == [DAY]


def test_days_before_the_gap_are_still_looked_at_for_late_rows(
    database, source: Source, small: Pipeline, lake: Lake
) -> None:
    night(small, source, FIRST, lake)
    database.add("late", "2026-11-02 06:00:00+00", known_at="2026-11-03 01:00:00+00")
    assert night(small, source, DAY, lake) == [DAY, MISSED[0], MISSED[2], FIRST]


def test_labels_of_missed_days_come_too(database, source: Source, small: Pipeline, lake: Lake) -> None:
    night(small, source, FIRST, lake)
    for at in ("2026-11-02 23:59+00", "2026-11-03 12:00+00"):
        database.run("INSERT INTO chargebacks VALUES (%(at)s, %(at)s, '')", at=at)
    night(small, source, DAY, lake)
    assert lake.read("labels", "fraud", as_of=end_of(DAY), until=end_of(DAY)).read_all().num_rows == 2


def test_labels_of_missed_days_were_read_even_where_there_are_none(source: Source, small: Pipeline, lake: Lake) -> None:
    night(small, source, FIRST, lake)
    night(small, source, DAY, lake)
    assert [day.day for day in days(lake, "labels")] == [FIRST, *MISSED, DAY]


def test_nothing_was_missed_before_the_first_run(small: Pipeline, lake: Lake) -> None:
    assert missed_days(small, DAY, lake) == []


def test_of_a_long_gap_the_newest_days_come_and_the_others_are_named(
    source: Source, small: Pipeline, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    night(small, source, FIRST, lake)
    found = missed_days(small, FIRST + timedelta(days=40), lake)
    assert (found[0], found[-1], len(found)) == (date(2026, 11, 11), date(2026, 12, 11), 31)
    assert "backfill fraud.ingest_data from 2026-11-03 to 2026-11-10" in caplog.text


def test_day_that_a_failed_try_left_in_raw_is_in_the_batch_of_the_next(
    source: Source, small: Pipeline, lake: Lake
) -> None:
    night(small, source, FIRST, lake)
    before = ingest_day(small, source, DAY, lake, missed_days(small, DAY, lake))
    again = ingest_day(small, source, DAY, lake, missed_days(small, DAY, lake))
    assert [day.day for day in before.days] == [DAY, MISSED[0], MISSED[2]]
    assert [(day.day, day.digest) for day in again.days] == [(day.day, day.digest) for day in before.days]


def test_empty_night_leaves_what_was_missed_to_the_next(source: Source, small: Pipeline, lake: Lake) -> None:
    night(small, source, FIRST, lake)
    with pytest.raises(Exception, match="found no rows"):
        night(small, source, MISSED[1], lake)
    assert night(small, source, MISSED[2], lake) == [MISSED[2], MISSED[0]]


def test_backfill_of_the_same_days_ends_in_the_same_bytes(source: Source, small: Pipeline, lake: Lake) -> None:
    night(small, source, FIRST, lake)
    missed = missed_days(small, DAY, lake)
    for day in (MISSED[0], MISSED[2]):  # a backfill comes first, after the nightly run chose its days
        validate_day(small, ingest_day(small, source, day, lake), lake)
    before = days(lake, "raw"), days(lake, "clean")
    validate_day(small, ingest_day(small, source, DAY, lake, missed), lake)
    after = days(lake, "raw"), days(lake, "clean")
    assert [[d.digest for d in zone] for zone in before] == [[d.digest for d in zone[:-1]] for zone in after]


@pytest.mark.parametrize(
    ("run_type", "under_way", "read"),
    [
        ("scheduled", 2, [DAY, MISSED[0], MISSED[2]]),
        ("scheduled", 3, [DAY]),  # a backfill, which reads them itself
        ("manual", 1, [DAY]),
        ("backfill", 1, [DAY]),
    ],
)
def test_only_a_scheduled_run_makes_up_for_missed_days(
    database,
    source: Source,
    small: Pipeline,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    run_type: str,
    under_way: int,
    read: list[date],
) -> None:
    night(small, source, FIRST, lake)
    run = SimpleNamespace(dag_id="fraud.ingest_data", run_type=run_type, partition_key=DAY.isoformat())
    named = {"dag_id": "fraud.ingest_data", "run_id": "1", "task_id": "extract_day", "try_number": 1, "map_index": -1}
    instance = SimpleNamespace(**named, xcom_push=lambda **_: None, get_dr_count=lambda **_: under_way)
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    monkeypatch.setattr(proof, "get_current_context", lambda: {"ti": instance, "dag_run": run, "params": {}})
    monkeypatch.setattr(ingest_tasks, "connection_url", lambda _: database.url)
    proven = ingest_tasks.extract_day.function("fraud")
    assert [day.day for day in proof.taken(proven, RawBatch).days] == read
