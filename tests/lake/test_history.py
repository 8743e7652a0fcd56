"""`Lake.read` shows history as it was known at an instant, never anything learned later."""

from __future__ import annotations

import gc
import tempfile
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.lake.tables import days_between

FIRST = date(2026, 11, 1)
START = start_of(FIRST)
HOUR = timedelta(hours=1)
Row = tuple[str, datetime, datetime, datetime | None]


def _write(lake: Lake, rows: list[Row], zone: str = "clean") -> None:
    """Each (key, event_time, known_at, superseded_at) on the day of its event."""
    for day in sorted({row[1].date() for row in rows}):
        there = [row for row in rows if row[1].date() == day]
        names = ("key", "event_time", "known_at", "superseded_at")
        instant = pa.timestamp("us", "UTC")
        columns = [
            pa.array(values, t)
            for values, t in zip(zip(*there, strict=True), (pa.string(), *[instant] * 3), strict=True)
        ]
        lake.table(zone, "fraud").replace_day(day, pa.table(dict(zip(names, columns, strict=True))))


def _keys(lake: Lake, **options: object) -> list[str]:
    bounds = {"as_of": end_of(FIRST + timedelta(days=30)), "until": end_of(FIRST + timedelta(days=30))} | options
    return lake.read("clean", "fraud", columns=["key"], **bounds).read_all()["key"].to_pylist()


def test_event_times_are_half_open(lake: Lake) -> None:
    noon = START + 12 * HOUR
    _write(lake, [("before", noon - HOUR, START, None), ("at", noon, START, None), ("after", noon + HOUR, START, None)])
    assert _keys(lake, until=noon) == ["before"]
    assert _keys(lake, since=noon) == ["at", "after"]
    assert _keys(lake, since=noon, until=noon) == []
    assert _keys(lake, since=noon, until=noon + timedelta(microseconds=1)) == ["at"]


def test_midnight_belongs_to_the_later_day(lake: Lake) -> None:
    midnight = end_of(FIRST)
    _write(lake, [("last", midnight - timedelta(microseconds=1), START, None), ("first", midnight, START, None)])
    assert _keys(lake, until=midnight) == ["last"]
    assert _keys(lake, since=midnight) == ["first"]


@pytest.mark.parametrize("batches", [0, 1, 2], ids=["unread", "half read", "read"])
def test_files_stay_as_long_as_they_are_read_and_no_longer(
    lake: Lake, batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(lake, [("one", START, START, None), ("two", START + 30 * HOUR, START, None)])
    kept = tmp_path / "temporary"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    end = end_of(FIRST + timedelta(days=30))
    reader = lake.read("clean", "fraud", columns=["key"], as_of=end, until=end)
    gc.collect()
    rows = [batch["key"].to_pylist() for batch in islice(reader, batches)]
    assert rows == [["one"], ["two"]][:batches]
    del reader
    assert list(kept.iterdir()) == []


def test_rows_not_yet_known_are_not_there(lake: Lake) -> None:
    _write(lake, [("early", START, START + HOUR, None), ("late", START, START + 50 * HOUR, None)])
    assert _keys(lake, as_of=START + HOUR) == ["early"]
    assert _keys(lake, as_of=START + HOUR - timedelta(microseconds=1)) == []
    assert _keys(lake, as_of=START + 50 * HOUR) == ["early", "late"]


def test_a_revised_row_is_seen_as_it_was_before_and_after(lake: Lake) -> None:
    revised = START + 5 * HOUR
    _write(lake, [("old", START, START, revised), ("new", START, revised, None)])
    assert _keys(lake, as_of=revised - timedelta(microseconds=1)) == ["old"]
    assert _keys(lake, as_of=revised) == ["new"]


def test_zone_without_revisions_is_read_too(lake: Lake) -> None:
    rows = pa.table({"key": ["a"], "event_time": pa.array([START], pa.timestamp("us", "UTC"))})
    rows = rows.append_column("known_at", rows["event_time"])
    lake.table("labels", "fraud").replace_day(FIRST, rows)
    found = lake.read("labels", "fraud", as_of=START, until=end_of(FIRST)).read_all()
    assert found.to_pylist() == [{"key": "a", "event_time": START, "known_at": START}]


def test_columns_are_those_asked_for_in_that_order_and_never_the_partition(lake: Lake) -> None:
    _write(lake, [("a", START, START, None)])
    bounds = {"as_of": START, "until": end_of(FIRST)}
    assert lake.read("clean", "fraud", columns=["known_at", "key"], **bounds).schema.names == ["known_at", "key"]
    assert lake.read("clean", "fraud", **bounds).schema.names == ["key", "event_time", "known_at", "superseded_at"]


def test_days_come_in_order(lake: Lake) -> None:
    days = days_between(FIRST, FIRST + timedelta(days=4))
    for day in reversed(days):
        _write(lake, [(f"{day}", start_of(day), START, None)])
    assert _keys(lake) == [f"{day}" for day in days]


def test_table_never_written_reads_as_nothing(lake: Lake) -> None:
    assert lake.read("clean", "fraud", as_of=START, until=START, columns=["key"]).read_all().num_rows == 0
    assert lake.read("clean", "fraud", as_of=START, until=START).read_all().num_rows == 0


def test_days_never_written_read_as_nothing_with_the_tables_columns(lake: Lake) -> None:
    _write(lake, [("a", START, START, None)])
    bounds = {"as_of": START, "since": START + 48 * HOUR, "until": START + 72 * HOUR}
    for columns in (None, ["event_time", "key"]):
        found = lake.read("clean", "fraud", columns=columns, **bounds)
        wanted = lake.read("clean", "fraud", columns=columns, as_of=START, until=end_of(FIRST))
        assert found.schema == wanted.schema
        assert found.read_all().num_rows == 0


def test_bounds_in_another_time_zone_are_the_same_instants(lake: Lake) -> None:
    auckland = timezone(13 * HOUR)
    _write(lake, [("late", end_of(FIRST) - HOUR, START, None), ("next", end_of(FIRST), START, None)])
    since, until = end_of(FIRST) - HOUR, end_of(FIRST) + HOUR
    assert _keys(lake, since=since.astimezone(auckland), until=until.astimezone(auckland)) == ["late", "next"]
    honolulu = timezone(-10 * HOUR)
    assert _keys(lake, since=since.astimezone(honolulu), until=until.astimezone(honolulu)) == ["late", "next"]


@pytest.mark.parametrize("bound", ["as_of", "until", "since"])
def test_bound_without_a_time_zone_is_refused(bound: str, lake: Lake) -> None:
    with pytest.raises(ValueError, match=f"{bound}=.* has no time zone"):
        _keys(lake, **{bound: datetime(2026, 11, 1)})  # noqa: DTZ001 that is the point


def test_start_and_end_of_a_day_are_utc_midnights() -> None:
    assert start_of(FIRST) == datetime(2026, 11, 1, tzinfo=UTC)
    assert end_of(date(2026, 12, 31)) == datetime(2027, 1, 1, tzinfo=UTC)


hours = st.integers(0, 72).map(lambda n: START + n * HOUR)
events = st.tuples(hours, st.integers(0, 48), st.none() | st.integers(0, 48))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(events, min_size=1, max_size=12), as_of=hours, since=hours, until=hours)
def test_reading_is_the_plain_filter(
    events: list[tuple[datetime, int, int | None]], as_of: datetime, since: datetime, until: datetime, lake: Lake
) -> None:
    rows = [
        (str(n), at, at + late * HOUR, None if again is None else at + (late + again) * HOUR)
        for n, (at, late, again) in enumerate(events)
    ]
    _write(lake, rows)
    written = {row[1].date() for row in rows}
    for day in {d.day for d in lake.table("clean", "fraud").days()} - written:
        lake.table("clean", "fraud").replace_day(day, lake.table("clean", "fraud").read([day]).slice(0, 0))
    wanted = [
        key
        for key, event, known, superseded in rows
        if since <= event < until and known <= as_of and (superseded is None or superseded > as_of)
    ]
    assert sorted(_keys(lake, as_of=as_of, since=since, until=until)) == sorted(wanted)
