"""Which features the choice of days decides, or a short history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from evergreen.monitoring.dependencies import calendar_features, looks_back, sources, unsettled_features
from evergreen.pipeline import Features, Pipeline, Window

FEATURES = Features(
    windows={"count_2d": Window(by=("card",), over="2d", aggregate="count")},
    expressions={
        "hour": "hour(event_time)",
        "night": "hour < 6",
        "night_share": "log1p(count_2d) * night",
        "big": "amount > 100",
    },
    numeric=("hour", "night", "night_share", "big", "count_2d", "amount"),
    categorical=("channel",),
)


def test_functions_of_the_time_alone_are_found_through_other_expressions() -> None:
    assert set(calendar_features(FEATURES)) == {"hour", "night"}


def test_sources_are_columns_and_windows() -> None:
    assert sources(FEATURES, "night_share") == {"count_2d", "event_time"}
    assert sources(FEATURES, "channel") == {"channel"}


def test_windows_are_looked_for_through_expressions() -> None:
    spans = looks_back(FEATURES)
    assert spans["night_share"] == spans["count_2d"] == timedelta(days=2)
    assert spans["big"] == spans["channel"] == timedelta()


def test_features_are_unsettled_until_their_window_lies_within_history() -> None:
    start = datetime(2026, 10, 1, tzinfo=UTC)
    early = unsettled_features(FEATURES, history_from=start, start=start + timedelta(hours=47))
    assert set(early) == {"night_share", "count_2d"}
    assert "looks back 2 days" in early["count_2d"]
    assert not unsettled_features(FEATURES, history_from=start, start=start + timedelta(days=2))


def test_sample_pipeline_judges_everything_but_hour_and_weekday(fraud: Pipeline) -> None:
    assert set(calendar_features(fraud.features)) == {"hour", "weekday"}
