"""Trailing windows equal their definition, whatever is late, corrected, simultaneous or without a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.features.windows import compute_windows
from evergreen.pipeline import Window

START = datetime(2026, 11, 1, tzinfo=UTC)
SCHEMA = {
    "card": pl.String,
    "shop": pl.String,
    "cents": pl.Int64,
    "event_time": pl.Datetime("us", "UTC"),
    "known_at": pl.Datetime("us", "UTC"),
    "superseded_at": pl.Datetime("us", "UTC"),
}
OVER = timedelta(seconds=10)
WINDOWS = {
    "count": Window(by=("card",), over="10s", aggregate="count"),
    "sum": Window(by=("card",), over="10s", aggregate="sum", of="cents"),
    "mean": Window(by=("card",), over="10s", aggregate="mean", of="cents"),
    "max": Window(by=("card",), over="10s", aggregate="max", of="cents"),
    "since": Window(by=("card",), over="10s", aggregate="seconds_since_last"),
    "pair": Window(by=("card", "shop"), over="10s", aggregate="count"),
}
Row = tuple[str | None, str | None, int | None, datetime, datetime, datetime | None]


def _at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def _frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@st.composite
def _events(draw: st.DrawFn) -> Row:
    event = draw(st.integers(0, 30))
    known = event + draw(st.sampled_from([0, 0, 0, 1, 5, 15]))
    ends = draw(st.sampled_from([None, None, None, 1, 4]))
    return (
        draw(st.sampled_from(["a", "b", None])),
        draw(st.sampled_from(["x", "y", None])),
        draw(st.none() | st.integers(-1000, 1000)),
        _at(event),
        _at(known),
        _at(known + ends) if ends is not None else None,
    )


def _slow(rows: list[Row], row: Row) -> dict[str, float | None]:
    """The definition, one event and one row of history at a time."""
    now = row[3]
    seen = [
        r
        for r in rows
        if r[0] is not None
        and r[0] == row[0]
        and now - OVER <= r[3] < now
        and r[4] <= now
        and (r[5] is None or r[5] > now)
    ]
    cents = [r[2] for r in seen if r[2] is not None]
    pair = [r for r in seen if r[1] is not None and r[1] == row[1]]
    return {
        "count": len(seen),
        "sum": sum(cents),
        "mean": sum(cents) / len(cents) if cents else None,
        "max": max(cents) if cents else None,
        "since": (now - max(r[3] for r in seen)).total_seconds() if seen else None,
        "pair": len(pair),
    }


@settings(max_examples=300)
@given(st.lists(_events(), min_size=1, max_size=40))
def test_windows_equal_their_definition(rows: list[Row]) -> None:
    frame = _frame(rows)
    assert compute_windows(frame, frame, WINDOWS).to_dicts() == [_slow(rows, row) for row in rows]


def test_hand_worked_window() -> None:
    rows: list[Row] = [
        ("a", "x", 100, _at(0), _at(0), None),
        ("a", "x", 300, _at(4), _at(4), None),
        ("a", "y", 50, _at(10), _at(10), None),
        ("a", "x", 7, _at(11), _at(11), None),
    ]
    found = compute_windows(_frame(rows), _frame(rows), WINDOWS).to_dicts()
    assert found[0] == {"count": 0, "sum": 0, "mean": None, "max": None, "since": None, "pair": 0}
    assert found[2] == {"count": 2, "sum": 400, "mean": 200.0, "max": 300, "since": 6.0, "pair": 0}
    assert found[3] == {"count": 2, "sum": 350, "mean": 175.0, "max": 300, "since": 1.0, "pair": 1}


def test_row_known_later_is_not_seen_before_and_is_seen_after() -> None:
    late: Row = ("a", "x", 9, _at(1), _at(6), None)
    rows: list[Row] = [late, ("a", "x", 0, _at(5), _at(5), None), ("a", "x", 0, _at(7), _at(7), None)]
    assert compute_windows(_frame(rows), _frame(rows), WINDOWS)["sum"].to_list() == [0, 0, 9]


def test_no_history_gives_empty_windows() -> None:
    rows: list[Row] = [("a", "x", 1, _at(0), _at(0), None)]
    found = compute_windows(_frame(rows), _frame([]), WINDOWS).to_dicts()
    assert found == [{"count": 0, "sum": 0, "mean": None, "max": None, "since": None, "pair": 0}]


def test_null_operand_is_counted_as_an_event_and_not_as_a_value() -> None:
    rows: list[Row] = [
        ("a", "x", -4, _at(0), _at(0), None),
        ("a", "x", None, _at(1), _at(1), None),
        ("a", "x", 1, _at(2), _at(2), None),
    ]
    found = compute_windows(_frame(rows), _frame(rows), WINDOWS).to_dicts()
    assert found[2] == {"count": 2, "sum": -4, "mean": -4.0, "max": -4, "since": 1.0, "pair": 2}
