"""Features are built by day, in any order, and are known to be stale when their inputs changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl
import pytest

from evergreen.artifacts import CleanBatch, ObjectRef, TableDay
from evergreen.features.build import build_features, refresh_features, stale_days
from evergreen.features.compute import compute_features
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

DAYS = [date(2026, 11, 1) + timedelta(days=n) for n in range(4)]


def _batch(*days: TableDay) -> CleanBatch:
    nothing = ObjectRef(path="x", digest="0")
    return CleanBatch(
        pipeline="shop", day=days[0].day, days=days, quarantine=(), quarantined={}, cleaned={}, report=nothing
    )


def _digests(lake: Lake) -> dict[date, str]:
    return {day.day: day.digest for day in lake.table("features", "shop").days()}


def test_days_in_any_order_end_in_the_same_bytes(
    shop: Pipeline, lake: Lake, tmp_path_factory: pytest.TempPathFactory, write_clean: Callable[..., TableDay]
) -> None:
    for day in DAYS:
        build_features(shop, _batch(write_clean(day)), lake)
    wanted = _digests(lake)
    other = Lake(tmp_path_factory.mktemp("other").as_uri())
    for day in reversed(DAYS):
        clean = lake.table("clean", "shop").read([day])
        build_features(shop, _batch(other.table("clean", "shop").replace_day(day, clean)), other)
    assert _digests(other) != wanted, "windows were cut short by days that were not there yet"
    refresh_features(shop, other, DAYS[0], DAYS[-1])
    assert _digests(other) == wanted


def test_changed_day_makes_its_followers_in_reach_stale(
    shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]
) -> None:
    for day in DAYS:
        build_features(shop, _batch(write_clean(day)), lake)
    assert stale_days(shop, lake, DAYS[0], DAYS[-1]) == []
    changed = lake.table("clean", "shop").read([DAYS[0]]).slice(1)
    lake.table("clean", "shop").replace_day(DAYS[0], changed)
    assert stale_days(shop, lake, DAYS[0], DAYS[-1]) == DAYS[:3]
    refresh_features(shop, lake, DAYS[0], DAYS[-1])
    assert stale_days(shop, lake, DAYS[0], DAYS[-1]) == []


def test_changed_definition_makes_all_days_stale(
    shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]
) -> None:
    build_features(shop, _batch(write_clean(DAYS[0])), lake)
    other = shop.model_copy(
        update={"features": shop.features.model_copy(update={"expressions": {"amount": "cents", "share": "cents"}})}
    )
    assert stale_days(other, lake, DAYS[0], DAYS[0]) == [DAYS[0]]


def test_features_replaced_by_other_hands_are_stale(
    shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]
) -> None:
    build_features(shop, _batch(write_clean(DAYS[0])), lake)
    features = lake.table("features", "shop")
    features.replace_day(DAYS[0], features.read([DAYS[0]]).slice(1))
    assert stale_days(shop, lake, DAYS[0], DAYS[0]) == [DAYS[0]]


def test_building_again_changes_nothing(shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]) -> None:
    batch = _batch(write_clean(DAYS[0]))
    assert build_features(shop, batch, lake) == build_features(shop, batch, lake)


def test_one_event_at_a_time_gives_what_a_batch_gives(
    shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]
) -> None:
    write_clean(DAYS[0])
    rows = pl.DataFrame(lake.table("clean", "shop").read([DAYS[0]]))
    at_once = compute_features(shop, rows, rows)
    singly = pl.concat(compute_features(shop, rows[n : n + 1], rows) for n in range(rows.height))
    assert at_once.equals(singly)


def test_missing_and_infinite_values_are_null(shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]) -> None:
    write_clean(DAYS[0])
    rows = pl.DataFrame(lake.table("clean", "shop").read([DAYS[0]]))
    features = compute_features(shop, rows, rows)
    first = features.filter(pl.col("orders_2d") == 0)
    assert first.height > 0
    assert first["share"].null_count() == first.height, "cents / 0 is missing, never infinite"
