"""Cleaning mends, casts and drops repeats; doing it twice is doing it once."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from evergreen.pipeline import ColumnSpec, Pipeline
from evergreen.validation.casts import cast
from evergreen.validation.cleaning import clean, supersede

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
SPEC = {
    "pipeline": "toy",
    "owner": "us",
    "purpose": "Test.",
    "source": {"connection": "c", "table": "t"},
    "contract": {
        "key": "id",
        "event_time": "at",
        "known_at": "seen",
        "columns": {
            "id": {"type": "string"},
            "word": {"type": "string"},
            "amount": {"type": "integer"},
            "rate": {"type": "float"},
            "flag": {"type": "boolean"},
        },
    },
    "label": {"name": "y", "table": "l", "key": "id", "known_at": "seen", "matures_after_days": 1},
    "cleaning": {"trim": ["word"], "empty_is_null": ["word"], "upper": ["word"]},
    "features": {"numeric": ["amount"]},
    "gate": {"minimum": {"roc_auc": 0.5}},
    "deployment": {"decisions": {"floors": {"yes": 0.5}}},
}
TOY = Pipeline.model_validate(SPEC)
CELL = st.one_of(st.none(), st.text(max_size=4), st.sampled_from([" 1 ", "1.5", "nan", "true", "F", "-9", " a", "ß"]))


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    text = dict.fromkeys(("id", "word", "amount", "rate", "flag"), pl.String())
    times = dict.fromkeys(("event_time", "known_at"), pl.Datetime("us", "UTC"))
    defaults = dict.fromkeys(text) | {"event_time": NOON, "known_at": NOON}
    return pl.DataFrame([defaults | row for row in rows], schema=text | times)


@st.composite
def dirty_rows(draw: st.DrawFn) -> pl.DataFrame:
    moment = st.integers(0, 3).map(lambda s: NOON + timedelta(seconds=s))
    known_at = st.fixed_dictionaries({"known_at": st.none() | moment})
    row = st.fixed_dictionaries(
        dict.fromkeys(("word", "amount", "rate", "flag"), CELL)
        | {"id": st.sampled_from([None, "a", " a", "b"]), "event_time": moment}
    )
    rows = draw(st.lists(st.builds(operator.or_, row, known_at), max_size=5))
    repeats = st.lists(st.builds(operator.or_, st.sampled_from(rows), known_at), max_size=3) if rows else st.just([])
    return frame(rows + draw(repeats))


@settings(max_examples=150)
@given(dirty_rows())
def test_cleaning_clean_rows_changes_nothing(rows: pl.DataFrame) -> None:
    once = clean(TOY, rows).rows
    twice = clean(TOY, once)
    assert_frame_equal(twice.rows, once)
    assert not any(twice.counts.values())
    versions = supersede("id", once)
    assert_frame_equal(supersede("id", versions), versions)


@settings(max_examples=60)
@given(dirty_rows())
def test_no_row_is_lost_but_counted_duplicates(rows: pl.DataFrame) -> None:
    cleaned = clean(TOY, rows)
    assert cleaned.rows.height + cleaned.counts["duplicates"] == rows.height


@settings(max_examples=150)
@given(dirty_rows())
def test_what_a_row_says_is_still_said_at_its_time_or_before(rows: pl.DataFrame) -> None:
    timed = rows.filter(pl.col("known_at").is_not_null())
    cleaned = clean(TOY, rows).rows
    said = [name for name in cleaned.columns if name != "known_at"]
    for number in range(timed.height):
        alone = clean(TOY, timed[number]).rows
        kept = cleaned.join(alone, on=said, how="inner", nulls_equal=True, suffix="_alone")
        assert (kept["known_at"] <= kept["known_at_alone"]).any()


def test_rules_are_counted_by_the_values_they_changed() -> None:
    rows = frame([{"id": "a", "word": " x "}, {"id": "b", "word": "X"}, {"id": "c", "word": "  "}])
    cleaned = clean(TOY, rows)
    assert cleaned.rows["word"].to_list() == ["X", "X", None]
    assert cleaned.counts["word: trim"] == 2
    assert cleaned.counts["word: empty_is_null"] == 1
    assert cleaned.counts["word: upper"] == 1


def test_value_that_cannot_be_cast_is_null_and_its_text_is_kept() -> None:
    cleaned = clean(TOY, frame([{"id": "a", "amount": "12"}, {"id": "b", "amount": "twelve"}, {"id": "c"}]))
    assert cleaned.rows["amount"].to_list() == [12, None, None]
    assert cleaned.rows["amount.unread"].to_list() == [None, "twelve", None]
    assert cleaned.counts["amount: cast"] == 2


@pytest.mark.parametrize(
    ("type", "values", "wanted"),
    [
        ("integer", ["1", " 2 ", "2.0", "x", "9223372036854775808"], [1, 2, None, None, None]),
        ("integer", [1.0, 2.5, float("nan"), 1e300, -(2.0**63)], [1, None, None, None, -(2**63)]),
        ("integer", [True, False], [1, 0]),
        ("float", ["1e3", "nan", ""], [1000.0, None, None]),
        ("float", [1, 2], [1.0, 2.0]),
        ("boolean", ["T", "false", "1", "yes"], [True, False, True, None]),
        ("boolean", [1, 0, 2], [True, False, None]),
        ("string", [1, 2], ["1", "2"]),
        ("string", [NOON], ["2026-11-02T12:00:00.000000+00:00"]),
        ("timestamp", ["2026-11-02T13:00:00+01:00", "2026-11-02 12:00:00", "x"], [NOON, NOON, None]),
        ("timestamp", ["2026-11-02"], [NOON - timedelta(hours=12)]),
        ("timestamp", [5], [None]),
        ("integer", [NOON], [None]),
    ],
)
def test_casts_are_exact_or_null(type: str, values: list[object], wanted: list[object]) -> None:
    rows = pl.DataFrame({"x": values})
    spec = ColumnSpec.model_validate({"type": type})
    assert rows.select(cast("x", rows.schema["x"], spec))["x"].to_list() == wanted


def known(*seconds: int) -> list[datetime]:
    return [NOON + timedelta(seconds=s) for s in seconds]


def test_repeats_of_a_version_are_dropped_keeping_the_earliest() -> None:
    rows = frame([{"id": "a", "amount": "1", "known_at": moment} for moment in known(3, 1, 2)])
    cleaned = clean(TOY, rows)
    assert cleaned.rows["known_at"].to_list() == known(1)
    assert cleaned.counts["duplicates"] == 2


def test_row_is_no_repeat_of_one_without_known_at() -> None:
    rows = frame([{"id": "a", "amount": "1", "known_at": moment} for moment in (None, *known(1, 2), None)])
    cleaned = clean(TOY, rows)
    assert cleaned.rows["known_at"].to_list() == [*known(1), None, None]
    assert cleaned.counts["duplicates"] == 1


def test_value_that_changes_back_is_a_version_of_its_own() -> None:
    amounts = zip(("1", "2", "1"), known(1, 2, 3), strict=True)
    rows = frame([{"id": "a", "amount": amount, "known_at": moment} for amount, moment in amounts])
    cleaned = clean(TOY, rows)
    assert cleaned.counts["duplicates"] == 0
    assert supersede("id", cleaned.rows)["superseded_at"].to_list() == [*known(2, 3), None]


def test_rows_without_a_key_never_repeat_one_another() -> None:
    assert clean(TOY, frame([{"amount": "1"}, {"amount": "1"}])).counts["duplicates"] == 0


def test_versions_supersede_only_their_own_key() -> None:
    rows = clean(
        TOY,
        frame(
            [
                {"id": i, "amount": str(n), "known_at": m}
                for n, (i, m) in enumerate(zip("abab", known(1, 2, 3, 4), strict=True))
            ]
        ),
    )
    versions = supersede("id", rows.rows).sort("known_at")
    assert versions["superseded_at"].to_list() == [*known(3, 4), None, None]
