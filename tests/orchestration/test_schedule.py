"""One resolver gives every run its day."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables import trigger
from airflow.timetables.base import TimeRestriction

from evergreen.orchestration import schedule
from evergreen.orchestration.schedule import NIGHTLY, resolve_day


def _context(*, day: str | None = None, key: str | None = None, run_after: datetime | None = None) -> dict[str, Any]:
    run = SimpleNamespace(partition_key=key, run_after=run_after or datetime(2026, 11, 5, 3, tzinfo=UTC))
    return {"dag_run": run, "params": {"day": day}}


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        pytest.param(_context(day="2026-11-01"), date(2026, 11, 1), id="form"),
        pytest.param(_context(key="2026-11-02"), date(2026, 11, 2), id="partition key"),
        pytest.param(_context(day="2026-11-02", key="2026-11-02"), date(2026, 11, 2), id="both agree"),
        pytest.param(_context(), date(2026, 11, 4), id="day before the run"),
    ],
)
def test_day_comes_from_form_then_key_then_run(context: dict[str, Any], wanted: date) -> None:
    assert resolve_day(context) == wanted


def test_disagreement_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match=r"2026-11-01 .* 2026-11-02"):
        resolve_day(_context(day="2026-11-01", key="2026-11-02"))


@pytest.mark.parametrize("day", ["2026-11-05", "2026-11-06"])
def test_unfinished_day_is_refused(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 5, 23, 59, 59, tzinfo=UTC)
    monkeypatch.setattr(schedule, "datetime", SimpleNamespace(now=lambda _: now))
    with pytest.raises(AirflowFailException, match="has not ended"):
        resolve_day(_context(day=day))


@pytest.mark.parametrize("hour", [0, 2, 12])
def test_first_start_waits_for_the_next_midnight(hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 22, hour, 17, tzinfo=UTC)
    monkeypatch.setattr(trigger, "utcnow", lambda: now)
    scheduled = decode_timetable(json.loads(json.dumps(encode_timetable(NIGHTLY))))
    never = TimeRestriction(earliest=None, latest=None, catchup=False)
    first = scheduled.next_dagrun_info_v2(last_dagrun_info=None, restriction=never)
    assert first is not None
    assert (first.run_after, first.partition_key) == (datetime(2026, 11, 23, tzinfo=UTC), "2026-11-22")
