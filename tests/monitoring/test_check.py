"""Drift between what a champion learned from and recent days, over a real lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.artifacts import DriftReport, Model, ObjectRef
from evergreen.errors import IntegrityError, NotFound
from evergreen.lake.lake import end_of
from evergreen.monitoring.check import as_report, check_drift, find_drift
from evergreen.monitoring.history import unbroken_from

AS_OF = date(2026, 10, 26)
TODAY = date(2026, 10, 28)
ONE_DAY = timedelta(days=1)
NO_PAGE = ObjectRef(path="page", digest="0" * 64, size_bytes=0)


def _checked(world: Any, model: Model, day: date = TODAY) -> DriftReport:
    """The report without its page, which takes a second to draw."""
    return as_report(find_drift(world.pipeline, model, day, day, world.lake), NO_PAGE)


def test_ordinary_day_is_quiet_and_says_what_moved_most(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    report = _checked(world, model)
    assert not report.drifted
    assert report.rows == world.rows
    assert report.version == model.version
    assert report.reason.startswith("No drift: of ")
    assert not any(column.drifted for column in report.columns)


def test_shifted_day_alarms_and_names_the_columns(world: Any) -> None:
    model = world.champion(AS_OF)
    world.shifts = (TODAY,)
    world.write(AS_OF, TODAY)
    report = _checked(world, model)
    drifted = {column.column for column in report.columns if column.drifted}
    assert report.drifted
    assert {"amount", "channel", "card_count_7d", "model score"} <= drifted
    assert not drifted & {"hour", "weekday"}
    assert report.reason.startswith("Drift: ")
    assert report.columns[0].column in report.reason


def test_one_weekday_against_three_weeks_is_not_drift(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    report = check_drift(world.pipeline, model, TODAY, TODAY, world.lake)
    weekday = next(column for column in report.columns if column.column == "weekday")
    assert weekday.population_stability > 1
    assert not weekday.drifted
    page = world.lake.objects.get(report.report.path).decode()
    assert "follows from the time of the event alone" in page


def test_too_few_rows_give_no_verdict(world: Any) -> None:
    model = world.champion(AS_OF)
    world.rows, world.shifts = 35, (TODAY,)
    world.write(AS_OF, TODAY)
    report = _checked(world, model)
    assert not report.drifted
    assert report.reason == "No verdict: too few rows, 35 where at least 1,000 are wanted."


def test_same_lake_gives_the_same_report_to_the_byte(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    first = check_drift(world.pipeline, model, AS_OF, TODAY, world.lake)
    kept = world.lake.objects.list(f"sketches/{world.pipeline.pipeline}")
    assert len(kept) == 1 + 1 + 3 + 3
    for path in kept:
        (world.lake.objects.root / path).unlink()
    assert check_drift(world.pipeline, model, AS_OF, TODAY, world.lake) == first


def test_damaged_sketch_is_made_again(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    first = _checked(world, model)
    for path in world.lake.objects.list(f"sketches/{world.pipeline.pipeline}"):
        world.lake.objects.put(path, b"not a sketch")
    assert _checked(world, model) == first


def test_scores_that_were_served_are_preferred(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    served = (
        world.written[TODAY]
        .select("event_time", "known_at")
        .with_columns(version=pl.lit(model.version), score=pl.lit(0.875, pl.Float32))
    )
    world.lake.table("predictions", world.pipeline.pipeline).replace_day(TODAY, served.to_arrow())
    report = check_drift(world.pipeline, model, TODAY, TODAY, world.lake)
    assert [c.column for c in report.columns if c.drifted] == ["model score"]
    assert "scores as they were served" in world.lake.objects.get(report.report.path).decode()


def test_scores_of_another_version_do_not_count(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    served = (
        world.written[TODAY]
        .select("event_time", "known_at")
        .with_columns(version=pl.lit("another"), score=pl.lit(0.875, pl.Float32))
    )
    world.lake.table("predictions", world.pipeline.pipeline).replace_day(TODAY, served.to_arrow())
    assert not _checked(world, model).drifted


def _respecified(world: Any, **features: tuple[str, ...]) -> Any:
    """The world's pipeline with other features."""
    spec = world.pipeline
    return spec.model_copy(update={"features": spec.features.model_copy(update=features)})


def test_added_feature_is_listed_as_new_and_the_others_are_judged(world: Any) -> None:
    model = world.champion(AS_OF)
    world.pipeline = _respecified(world, numeric=(*world.pipeline.features.numeric, "age"))
    world.shifts = (TODAY,)
    world.write(AS_OF, TODAY)
    report = check_drift(world.pipeline, model, TODAY, TODAY, world.lake)
    drifted = {column.column for column in report.columns if column.drifted}
    assert {"amount", "channel", "model score"} <= drifted
    assert "age" not in {column.column for column in report.columns}
    page = world.lake.objects.get(report.report.path).decode()
    assert "<td>age</td>" in page
    assert "not judged: the champion never learned from it" in page


def test_renamed_feature_makes_no_drift_of_scores_it_had_a_part_in(world: Any) -> None:
    model = world.champion(AS_OF)
    others = world.pipeline.features.numeric[1:]
    world.pipeline = _respecified(world, numeric=("euros", *others))
    world.write(AS_OF, TODAY)
    report = check_drift(world.pipeline, model, TODAY, TODAY, world.lake)
    assert not report.drifted, report.reason
    assert {"card_sum_1h", "channel"} <= {column.column for column in report.columns}
    page = world.lake.objects.get(report.report.path).decode()
    assert "not judged: the champion takes amount, which the features no longer have as it learned it" in page


def test_feature_of_another_kind_than_the_champion_learned_is_not_compared(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    _checked(world, model)
    numeric, categorical = world.pipeline.features.numeric, world.pipeline.features.categorical
    world.pipeline = _respecified(world, numeric=numeric[:-1], categorical=(*categorical, numeric[-1]))
    report = _checked(world, model)
    assert numeric[-1] not in {column.column for column in report.columns}
    assert not report.drifted


def test_features_all_new_to_the_champion_give_no_verdict_and_say_why(world: Any) -> None:
    model = world.champion(AS_OF)
    world.pipeline = _respecified(world, numeric=("euros",), categorical=())
    world.write(AS_OF, TODAY)
    report = _checked(world, model)
    assert not report.drifted
    assert report.reason == "No verdict: no column can be judged, most often: the champion never learned from it."


def test_rows_that_came_after_the_day_are_not_seen(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    late = world.written[TODAY].with_columns(pl.lit(end_of(TODAY) + timedelta(hours=1)).alias("known_at"))
    world.lake.table("features", world.pipeline.pipeline).append_day(TODAY, late.to_arrow())
    assert _checked(world, model).rows == world.rows


def test_counts_over_a_week_are_not_judged_in_the_first_week(world: Any) -> None:
    model = world.champion(AS_OF)
    early = date(2026, 10, 4)
    world.write(AS_OF, TODAY)
    report = check_drift(world.pipeline, model, early, early, world.lake)
    page = world.lake.objects.get(report.report.path).decode()
    assert "looks back 7 days, to before the first day of unbroken history" in page
    assert not report.drifted


def test_day_without_features_is_refused_by_name(world: Any) -> None:
    model = world.champion(AS_OF)
    with pytest.raises(NotFound, match="none for 2026-10-28"):
        _checked(world, model)


@pytest.fixture
def reopened(world: Any) -> tuple[Any, Model]:
    """TODAY was never ingested; on the day after it, what looks back to it is nothing like before."""
    model, after = world.champion(AS_OF), TODAY + ONE_DAY
    world.write(TODAY - ONE_DAY, TODAY - ONE_DAY)
    world.write(after, after + ONE_DAY)
    short = world.written[after].with_columns(pl.lit(0.0).alias(name) for name in ("card_sum_1h", "card_count_7d"))
    world.lake.table("features", world.pipeline.pipeline).replace_day(after, short.to_arrow())
    return world, model


def test_day_that_was_never_ingested_is_left_out_and_named(reopened: tuple[Any, Model]) -> None:
    world, model = reopened
    first, last = TODAY - ONE_DAY, TODAY + 2 * ONE_DAY
    report = check_drift(world.pipeline, model, first, last, world.lake)
    assert report.rows == 3 * world.rows
    assert not report.drifted, report.reason
    page = world.lake.objects.get(report.report.path).decode()
    assert "; without 2026-10-28, which have no clean rows" in page


def test_feature_that_looks_over_the_gap_is_judged_on_the_days_on_which_it_does_not(
    reopened: tuple[Any, Model],
) -> None:
    world, model = reopened
    found = find_drift(world.pipeline, model, TODAY, TODAY + 2 * ONE_DAY, world.lake)
    assert not found.comparison.drifted, found.reason
    assert found.current["card_sum_1h"].rows == world.rows
    assert found.current["card_count_7d"].rows == 2 * world.rows
    assert "card_sum_1h" in {column.column for column in found.comparison.judged}
    assert found.comparison.unjudged["card_count_7d"].startswith("looks back 7 days")


def test_altered_training_set_is_refused_by_name(world: Any) -> None:
    model = world.champion(AS_OF)
    world.write(AS_OF, TODAY)
    path = f"training_sets/{world.pipeline.pipeline}/{model.training_set}/train.parquet"
    world.lake.objects.put(path, world.lake.objects.get(path) + b"!")
    with pytest.raises(IntegrityError, match=r"train\.parquet"):
        _checked(world, model)


def test_days_in_the_wrong_order_are_refused(world: Any, make_model: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="before first_day"):
        check_drift(world.pipeline, make_model(world.lake, world.pipeline), TODAY, AS_OF, world.lake)


def test_history_is_unbroken_only_up_to_the_last_gap() -> None:
    days = {date(2026, 11, n) for n in (1, 2, 3, 5, 6, 7)}
    assert unbroken_from(days, date(2026, 11, 7)) == date(2026, 11, 5)
    assert unbroken_from(days, date(2026, 11, 3)) == date(2026, 11, 1)
    assert unbroken_from(days, date(2026, 11, 9)) == date(2026, 11, 9)
