"""`evergreen status` reads no more than it tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.settings import PROJECT, Settings
from evergreen.standalone.status import summarise

NEWEST = date(2026, 11, 30)


@pytest.fixture
def settings(lake: Lake, tmp_path: Path) -> Settings:
    """An installation with the temporary lake and the sample's pipeline."""
    variables = {"EVERGREEN_HOME": str(tmp_path), "EVERGREEN_LAKE_URL": lake.url}
    return Settings.from_environment(variables | {"EVERGREEN_PIPELINES": str(PROJECT / "include" / "pipelines")})


@pytest.fixture
def ledger(start_postgres: Callable[[], Any]) -> Ledger:
    """An empty ledger in a real PostgreSQL."""
    made = Ledger(str(start_postgres().get_uri()))
    made.migrate()
    return made


def _refuse(lake: Lake, day: date, *reasons: list[str]) -> None:
    """The day's quarantine, one row for each list of reasons."""
    rows = pa.table({"reasons": pa.array(reasons, pa.list_(pa.string()))})
    lake.table("quarantine", "fraud").replace_day(day, rows)


def _quarantined(settings: Settings, ledger: Ledger) -> object:
    return summarise(settings, ledger)["pipelines"]["fraud"]["quarantined"]


def test_only_the_last_thirty_days_of_quarantine_are_read_and_counted(
    settings: Settings, ledger: Ledger, lake: Lake
) -> None:
    _refuse(lake, NEWEST - timedelta(days=30), ["of long ago"])
    (old,) = lake.table("quarantine", "fraud").files()
    _refuse(lake, NEWEST - timedelta(days=29), ["amount: missing"], ["amount: missing", "known_at: missing"])
    _refuse(lake, NEWEST)
    lake.objects.put(f"quarantine/fraud/{old.path}", b"bytes that a read would refuse")
    assert _quarantined(settings, ledger) == {"amount: missing": 2, "known_at: missing": 1}


def test_no_refused_row_is_none_counted(settings: Settings, ledger: Ledger, lake: Lake) -> None:
    assert _quarantined(settings, ledger) == {}
    _refuse(lake, NEWEST)
    assert _quarantined(settings, ledger) == {}
