"""What replicas of the service tell one another, so that windows are the same whichever of them is asked."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.errors import LakeUnavailable
from evergreen.lake.lake import Lake, start_of
from evergreen.pipeline import Pipeline
from evergreen.serving import shared_events
from evergreen.serving.history import History
from serving.test_history import DAY, events, ids, write_clean

ROWS = events(40, start=start_of(DAY), cards=1)
NEW = events(1, start=start_of(DAY + timedelta(1)), prefix="new", cards=1)


def replica(fraud: Pipeline, lake: Lake) -> History:
    """One that has started."""
    made = History(fraud, lake, tail_rows=20)
    made.refresh()
    return made


def known(history: History) -> list[str]:
    return ids(history.related(NEW).filter(pl.col("transaction_id") != "new0"))


def objects(lake: Lake) -> list[str]:
    return lake.objects.list("events/fraud")


@pytest.mark.parametrize("segment_rows", [7, 50_000])
def test_replicas_know_what_the_others_served(
    fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch, segment_rows: int
) -> None:
    monkeypatch.setattr(shared_events, "SEGMENT_ROWS", segment_rows)
    one, other = replica(fraud, lake), replica(fraud, lake)
    for at in range(0, 40, 4):
        (one if at % 8 else other).add(ROWS[at : at + 4])
        one.refresh()
        other.refresh()
    one.refresh()
    assert known(one) == known(other) == ids(ROWS)
    assert known(replica(fraud, lake)) == ids(ROWS), "one that starts later"
    assert len(objects(lake)) <= 2 * (1 + 20 // segment_rows)


def test_an_event_that_two_replicas_served_counts_once(fraud: Pipeline, lake: Lake) -> None:
    one, other = replica(fraud, lake), replica(fraud, lake)
    one.add(ROWS)
    other.add(ROWS)
    for history in (one, other, one):
        history.refresh()
        assert history.num_rows == 40


def test_events_go_once_their_day_is_clean(fraud: Pipeline, lake: Lake) -> None:
    one = replica(fraud, lake)
    one.add(ROWS)
    one.refresh()
    assert len(objects(lake)) == 1
    write_clean(lake, DAY, ROWS)
    one.refresh()
    one.refresh()
    assert objects(lake) == []
    assert known(replica(fraud, lake)) == ids(ROWS)
    one.add(NEW)
    one.refresh()
    assert "new0" in ids(
        replica(fraud, lake).related(events(1, start=start_of(DAY + timedelta(1)), prefix="x", cards=1))
    )


def test_what_the_lake_refuses_is_told_later(fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = replica(fraud, lake), replica(fraud, lake)

    def refuse(*_: Any) -> None:
        raise LakeUnavailable("The lake", found="no answer", wanted="an answer", remedy="Wait.")

    one.add(ROWS[:30])
    with monkeypatch.context() as patch:
        patch.setattr(type(lake.objects), "put", refuse)
        with pytest.raises(LakeUnavailable):
            one.refresh()
    one.add(ROWS[30:])
    one.refresh()
    other.refresh()
    assert known(other) == ids(ROWS)


def test_what_gathered_while_the_lake_was_away_is_told_in_short_segments(
    fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_events, "SEGMENT_ROWS", 7)
    one, other, put = replica(fraud, lake), replica(fraud, lake), type(lake.objects).put
    sizes: list[int] = []

    def sometimes(store: Any, path: str, data: bytes) -> None:
        sizes.append(pl.read_parquet(data).height)
        if away:
            raise LakeUnavailable("The lake", found="no answer", wanted="an answer", remedy="Wait.")
        put(store, path, data)

    monkeypatch.setattr(type(lake.objects), "put", sometimes)
    for at in range(0, 40, 4):
        away = 4 < at < 36
        one.add(ROWS[at : at + 4])
        with pytest.raises(LakeUnavailable) if away else nullcontext():
            one.refresh()
    other.refresh()
    assert known(other) == ids(ROWS)
    assert max(sizes) == 7
    assert len(objects(lake)) == 6


def test_what_was_read_before_the_lake_went_away_is_read_again(
    fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = replica(fraud, lake)
    for at in (0, 20):
        one = replica(fraud, lake)
        one.add(ROWS[at : at + 20])
        one.refresh()
    last, get = objects(lake)[-1], type(lake.objects).get

    def refuse_last(store: Any, path: str) -> bytes:
        if path == last:
            raise LakeUnavailable("The lake", found="no answer", wanted="an answer", remedy="Wait.")
        return get(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(lake.objects), "get", refuse_last)
        with pytest.raises(LakeUnavailable):
            reader.refresh()
    reader.refresh()
    assert known(reader) == ids(ROWS)


def test_a_replica_of_another_release_with_fewer_columns_is_understood(fraud: Pipeline, lake: Lake) -> None:
    name, window = next((name, window) for name, window in fraud.features.windows.items() if window.of is None)
    one, other = replica(_with_windows(fraud, {name: window}), lake), replica(fraud, lake)
    one.add(ROWS)
    one.refresh()
    other.refresh()
    assert known(other) == ids(ROWS)


def test_a_pipeline_without_windows_tells_nothing(fraud: Pipeline, lake: Lake) -> None:
    one = replica(_with_windows(fraud, {}), lake)
    one.add(ROWS)
    one.refresh()
    assert objects(lake) == []


def _with_windows(fraud: Pipeline, windows: dict[str, Any]) -> Pipeline:
    features = {"windows": windows, "expressions": {}, "numeric": ("amount_cents", *windows), "categorical": ()}
    return fraud.model_copy(update={"features": fraud.features.model_copy(update=features)})
