"""Rows that reached raw are judged sooner or later, whatever became of the run that read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl
import pytest

from evergreen.artifacts import RawBatch
from evergreen.errors import ConfigurationError, ValidationFailed
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.validation import validate
from evergreen.validation.notes import unjudged_days
from evergreen.validation.validate import validate_day

DAY = date(2026, 11, 2)
BEFORE = DAY - timedelta(days=1)
Ingest = Callable[..., RawBatch]
Rows = Callable[..., pl.DataFrame]


def clean_keys(lake: Lake, day: date) -> list[str]:
    return sorted(lake.table("clean", "fraud").read([day])["transaction_id"].to_pylist())


@pytest.fixture
def late(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> RawBatch:
    """A run of DAY, given to validation, that does not tell of the late row another run read into BEFORE."""
    validate_day(small, ingest(raw_rows({}, day=BEFORE), days=(BEFORE,)), lake)
    ingest(raw_rows({}, {"transaction_id": "late"}, day=BEFORE), days=(BEFORE,))
    return ingest(raw_rows({}))


def test_late_rows_whose_run_failed_become_clean_with_the_next(lake: Lake, small: Pipeline, late: RawBatch) -> None:
    batch = validate_day(small, late, lake)
    assert [day.day for day in batch.days] == [DAY, BEFORE]
    assert clean_keys(lake, BEFORE) == ["late", "t0"]


def test_days_that_the_lake_does_not_have_do_not_count_in_the_late_window(
    lake: Lake, small: Pipeline, late: RawBatch, ingest: Ingest, raw_rows: Rows
) -> None:
    after_holidays = DAY + timedelta(days=5)
    validate_day(small, late.model_copy(update={"day": BEFORE - timedelta(days=9)}), lake)  # judges DAY alone
    batch = validate_day(small, ingest(raw_rows({}, day=after_holidays), days=(after_holidays,)), lake)
    assert [day.day for day in batch.days] == [after_holidays, BEFORE]


def test_days_that_were_judged_are_left_alone(lake: Lake, small: Pipeline, late: RawBatch) -> None:
    validate_day(small, late, lake)
    assert [day.day for day in validate_day(small, late, lake).days] == [DAY]


def test_validation_that_broke_off_leaves_its_days_to_the_next(
    lake: Lake, small: Pipeline, late: RawBatch, respecified: Callable[..., Pipeline]
) -> None:
    unknown = respecified(small, validation={"expectations": [{"ExpectNothing": {}}]})
    with pytest.raises(ConfigurationError):
        validate_day(unknown, late, lake)
    assert [day.day for day in validate_day(small, late, lake).days] == [DAY, BEFORE]


def test_refused_day_is_judged_once_and_its_rows_again_when_they_changed(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    with pytest.raises(ValidationFailed):
        validate_day(small, ingest(raw_rows({"currency": "???"}, day=BEFORE), days=(BEFORE,)), lake)
    today = ingest(raw_rows({}))
    assert [day.day for day in validate_day(small, today, lake).days] == [DAY]
    ingest(raw_rows({}, day=BEFORE), days=(BEFORE,))
    assert [day.day for day in validate_day(small, today, lake).days] == [DAY, BEFORE]


def test_days_that_never_were_judged_are_left_to_their_own_run(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    days = tuple(DAY - timedelta(days=n) for n in range(3))
    ingest(*(raw_rows({}, day=day) for day in days), days=days)
    assert list(unjudged_days(small, DAY, lake)) == []


def test_rows_that_another_run_replaced_meanwhile_are_judged_instead(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, newer = ingest(raw_rows({})), raw_rows({}, {})
    evaluate = validate.evaluate

    def overtaken(pipeline: Pipeline, rows: pl.DataFrame) -> object:
        ingest(newer)
        return evaluate(pipeline, rows)

    monkeypatch.setattr(validate, "evaluate", overtaken)
    assert validate_day(small, raw, lake).days[0].rows == 2
    assert clean_keys(lake, DAY) == ["t0", "t1"]
