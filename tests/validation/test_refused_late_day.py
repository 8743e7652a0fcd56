"""Late rows spoil an earlier day: the run's own day goes on, and the refusal is in the log and on the receipt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from evergreen.artifacts import CleanBatch, RawBatch, TableDay
from evergreen.errors import ValidationFailed
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import read_receipts
from evergreen.pipeline import Pipeline
from evergreen.validation.validate import refused_pages, validate_day

DAY = date(2026, 11, 2)
BEFORE = DAY - timedelta(days=1)
BAD = {"currency": "???"}
PAGE = f"reports/fraud/validation/{BEFORE}.html"
Ingest = Callable[..., RawBatch]
Rows = Callable[..., pl.DataFrame]


@pytest.fixture
def sound(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> TableDay:
    """The earlier day as its own run left it clean."""
    (clean,) = validate_day(small, ingest(raw_rows({}, day=BEFORE), days=(BEFORE,)), lake).days
    return clean


def test_refused_earlier_day_keeps_its_clean_rows_and_the_day_itself_goes_on(
    lake: Lake,
    small: Pipeline,
    ingest: Ingest,
    raw_rows: Rows,
    sound: TableDay,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = ingest(raw_rows({}), raw_rows(BAD, day=BEFORE), days=(DAY, BEFORE))
    for _ in range(2):  # as when the task is cleared
        caplog.clear()
        batch = validate_day(small, raw, lake)
        assert [day.day for day in batch.days] == [DAY]
        assert [(day.day, day.rows) for day in batch.quarantine] == [(DAY, 0), (BEFORE, 1)]
        (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert told.startswith(f"Day {BEFORE} of fraud: found 1 of 1 rows are bad")
        assert PAGE in told
    lake.table("clean", "fraud").verify(sound)
    assert [page.path for page in refused_pages(batch, lake)] == [PAGE]


def test_day_itself_that_is_refused_stops_the_run_and_names_the_others(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    raw = ingest(raw_rows(BAD), raw_rows(BAD, day=BEFORE), days=(DAY, BEFORE))
    with pytest.raises(ValidationFailed, match=f"Day {DAY} of fraud.*and 1 more days") as caught:
        validate_day(small, raw, lake)
    assert str(BEFORE) in str(caught.value.details)


def test_task_shows_the_refused_page_as_evidence(
    lake: Lake, fraud: Pipeline, ingest: Ingest, raw_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evergreen.orchestration import ingest_tasks, proof

    instance = SimpleNamespace(
        dag_id="fraud.ingest_data",
        run_id="late",
        task_id="validate_day",
        try_number=1,
        map_index=-1,
        xcom_push=lambda key, value: None,
    )
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    monkeypatch.setattr(proof, "get_current_context", lambda: {"ti": instance})
    rows = [{"transaction_id": f"t{number}"} for number in range(fraud.validation.min_rows)]
    raw = ingest(raw_rows(*rows), raw_rows(BAD, day=BEFORE), days=(DAY, BEFORE))
    lake.objects.put("receipts/extract.json", b"{}")
    extracted = {"receipt": "receipts/extract.json", "result": {"RawBatch": raw.model_dump(mode="json")}}
    proven = ingest_tasks.validate_day.function("fraud", extracted)
    assert [day.day for day in proof.taken(proven, CleanBatch).days] == [DAY]
    (receipt,) = read_receipts(lake, "fraud", "fraud.ingest_data.late")
    assert [page.path for page in receipt.objects] == [f"reports/fraud/validation/{DAY}.html", PAGE]
