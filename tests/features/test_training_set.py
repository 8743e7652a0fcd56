"""A training set holds what was known at its instant, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from evergreen.artifacts import TableDay, TrainingSet
from evergreen.errors import Conflict, DataError, IntegrityError, NotFound
from evergreen.features.build import refresh_features
from evergreen.features.definitions import feature_digests
from evergreen.features.training_set import build_training_set, fetch_part
from evergreen.lake.lake import Lake, end_of
from evergreen.pipeline import Pipeline

DAYS = [date(2026, 11, 1) + timedelta(days=n) for n in range(7)]
AS_OF = DAYS[5]
"""Train days 0 to 2, validation 3, holdout 4; day 5 is not mature."""


@pytest.fixture
def history(write_clean: Callable[..., TableDay], write_labels: Callable[..., TableDay]) -> Callable[..., TableDay]:
    """Seven days of orders, two of each day's labelled positive on the day after; gives the label writer."""
    write_labels(DAYS[0], [])
    for day in DAYS:
        write_clean(day)
        write_labels(day + timedelta(days=1), [(f"{day}-3", 1, 5), (f"{day}-9", 1, 6), (f"{day}-10", 0, 6)])
    return write_labels


def _read(lake: Lake, training_set: TrainingSet, part: str, folder: Path) -> pl.DataFrame:
    return pl.read_parquet(fetch_part(lake, training_set, part, folder))  # type: ignore[arg-type]


def _parts(lake: Lake, training_set: TrainingSet) -> object:
    """Digest, rows and positives of each part."""
    return json.loads(lake.objects.get(f"{training_set.uri}/manifest.json"))["parts"]


def test_parts_are_the_last_mature_days(shop: Pipeline, lake: Lake, history: object, tmp_path: Path) -> None:
    made = build_training_set(shop, AS_OF, lake)
    assert (made.train_days, made.validation_days, made.holdout_days) == (
        (DAYS[0], DAYS[2]),
        (DAYS[3], DAYS[3]),
        (DAYS[4], DAYS[4]),
    )
    assert made.positives == {"train": 6, "validation": 2, "holdout": 2}
    train = _read(lake, made, "train", tmp_path)
    assert train.columns == ["order", "event_time", "label", "amount", "share", "orders_2d", "who"]
    assert train["event_time"].is_sorted()
    assert sum(train.select("amount", "share", "orders_2d").fill_null(0).sum().row(0)) < float("inf")


def test_same_history_gives_the_same_digest(shop: Pipeline, lake: Lake, history: object) -> None:
    assert build_training_set(shop, AS_OF, lake) == build_training_set(shop, AS_OF, lake)


def test_what_became_known_later_changes_nothing(
    shop: Pipeline, lake: Lake, history: Callable[..., TableDay], write_clean: Callable[..., TableDay]
) -> None:
    before = build_training_set(shop, AS_OF, lake)
    history(DAYS[6], [(f"{DAYS[1]}-1", 1, 0), (f"{DAYS[4]}-1", 1, 23)])
    late = pl.DataFrame(lake.table("clean", "shop").read([DAYS[1]]))
    planted = late.head(1).with_columns(
        order=pl.lit("planted"), known_at=pl.lit(end_of(AS_OF) + timedelta(seconds=1)).cast(pl.Datetime("us", "UTC"))
    )
    write_clean(DAYS[1], pl.concat([late, planted]).sort("event_time", "order"))
    after = build_training_set(shop, AS_OF, lake)
    assert _parts(lake, after) == _parts(lake, before), "every part is the same to the byte"


def test_later_instant_sees_what_became_known(shop: Pipeline, lake: Lake, history: Callable[..., TableDay]) -> None:
    later = build_training_set(shop, DAYS[6], lake, window_days=4)
    assert later.train_days == (DAYS[0], DAYS[3])
    assert later.holdout_days == (DAYS[5], DAYS[5])


def test_short_history_is_used_as_it_is(shop: Pipeline, lake: Lake, history: object) -> None:
    assert build_training_set(shop, AS_OF, lake, window_days=300).train_days == (DAYS[0], DAYS[2])


def test_no_history_says_what_to_ingest(shop: Pipeline, lake: Lake) -> None:
    with pytest.raises(NotFound, match=r"shop\.ingest_data"):
        build_training_set(shop, AS_OF, lake)


def test_label_that_never_occurs_is_refused(shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay]) -> None:
    for day in DAYS:
        write_clean(day)
    with pytest.raises(DataError, match="0 positive"):
        build_training_set(shop, AS_OF, lake)


def test_manifest_says_what_each_feature_meant(shop: Pipeline, lake: Lake, history: object) -> None:
    made = build_training_set(shop, AS_OF, lake)
    assert json.loads(lake.objects.get(f"{made.uri}/manifest.json"))["definitions"] == feature_digests(shop)


def test_days_rebuilt_by_another_spec_while_they_are_read_are_a_conflict(
    shop: Pipeline, lake: Lake, history: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Lake.read

    def rebuilt_first(there: Lake, zone: str, *words: object, **options: object) -> object:
        if zone == "features":
            refresh_features(_leaner(shop), lake, DAYS[2], DAYS[2])
        return read(there, zone, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "read", rebuilt_first)
    with pytest.raises(Conflict, match=f"Features of shop: found {DAYS[2]} built anew while they were read"):
        build_training_set(shop, AS_OF, lake)
    assert lake.objects.list("training_sets") == []
    monkeypatch.undo()
    assert build_training_set(shop, AS_OF, lake).rows["train"] == 180, "the next try builds the day again"


def test_features_in_a_lake_of_their_own_leave_those_of_the_pipeline_as_they_are(
    shop: Pipeline, lake: Lake, history: object, tmp_path: Path
) -> None:
    before = build_training_set(shop, AS_OF, lake)
    refresh_features(_leaner(shop), lake, DAYS[0], DAYS[-1])
    published = lake.table("features", "shop").days()
    assert build_training_set(shop, AS_OF, lake, features=Lake((tmp_path / "apart").as_uri())) == before
    assert lake.table("features", "shop").days() == published


def _leaner(shop: Pipeline) -> Pipeline:
    """The shop by a spec that has no window among its features."""
    return shop.model_copy(update={"features": shop.features.model_copy(update={"numeric": ("amount",)})})


def test_altered_part_is_refused(shop: Pipeline, lake: Lake, history: object, tmp_path: Path) -> None:
    made = build_training_set(shop, AS_OF, lake)
    path = f"{made.uri}/train.parquet"
    lake.objects.put(path, lake.objects.get(path) + b" ")
    with pytest.raises(IntegrityError, match=r"train\.parquet"):
        fetch_part(lake, made, "train", tmp_path)


def test_labels_of_a_day_that_were_never_read_do_not_count_as_none(
    shop: Pipeline, lake: Lake, write_clean: Callable[..., TableDay], write_labels: Callable[..., TableDay]
) -> None:
    for day in DAYS:
        write_clean(day)
        if day != DAYS[2]:
            write_labels(day, [(f"{day}-3", 1, 5)])
    with pytest.raises(NotFound, match=f"none read of 1 days, the first {DAYS[2]}.*backfill shop.ingest_data"):
        build_training_set(shop, AS_OF, lake)


def test_labels_reported_before_the_first_training_day_are_not_read(
    shop: Pipeline, lake: Lake, history: Callable[..., TableDay]
) -> None:
    before = build_training_set(shop, AS_OF, lake)
    history(DAYS[0] - timedelta(days=1), [("an event of long ago", 1, 5)])
    (file,) = [f for f in lake.table("labels", "shop").files() if f.day < DAYS[0]]
    lake.objects.put(f"labels/shop/{file.path}", b"bytes that a read would refuse")
    assert build_training_set(shop, AS_OF, lake) == before
