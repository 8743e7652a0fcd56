"""What the service remembers."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.errors import LakeUnavailable
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.published_days import publish_days
from evergreen.pipeline import Pipeline
from evergreen.serving import history as history_module
from evergreen.serving.history import History
from evergreen.serving.key_index import Hashes, Positions, SortedHashes, find_unsorted, narrowest

DAY = date(2026, 11, 2)
TIME = pl.Datetime("us", "UTC")


def events(count: int, *, start: datetime, prefix: str = "t", cards: int = 5, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    at = [start + timedelta(minutes=n) for n in range(count)]
    return pl.DataFrame(
        {
            "transaction_id": [f"{prefix}{n}" for n in range(count)],
            "card_id": rng.integers(0, cards, count).astype(str),
            "customer_id": ["u"] * count,
            "merchant_id": rng.integers(100, 100 + cards, count).astype(str),
            "amount_cents": rng.integers(1, 9999, count),
            "currency": ["EUR"] * count,
            "mcc": ["5411"] * count,
            "merchant_country": ["DE"] * count,
            "card_country": ["DE"] * count,
            "channel": ["chip"] * count,
            "device_id": [None] * count,
            "event_time": at,
            "known_at": at,
            "superseded_at": [None] * count,
        },
        schema_overrides={"device_id": pl.String, "event_time": TIME, "known_at": TIME, "superseded_at": TIME},
    )


def write_clean(lake: Lake, day: date, rows: pl.DataFrame) -> None:
    lake.table("clean", "fraud").replace_day(day, rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    publish_days(lake, "clean", "fraud")


@pytest.fixture
def history(fraud: Pipeline, lake: Lake) -> History:
    return History(fraud, lake, tail_rows=20)


def ids(rows: pl.DataFrame) -> list[str]:
    return sorted(rows["transaction_id"])


def test_related_rows_are_those_of_the_same_card_or_merchant(history: History, lake: Lake) -> None:
    clean = events(300, start=start_of(DAY), cards=12)
    write_clean(lake, DAY, clean)
    history.refresh()
    new = events(3, start=start_of(DAY + timedelta(1)), prefix="new", cards=12, seed=9)
    shares = pl.col("card_id").is_in(new["card_id"].implode()) | pl.col("merchant_id").is_in(
        new["merchant_id"].implode()
    )
    assert ids(history.related(new)) == ids(pl.concat([clean.filter(shares), new]))


def test_served_events_are_remembered_before_and_after_they_get_an_index(history: History) -> None:
    history.refresh()
    served = events(60, start=start_of(DAY), cards=1)
    for n in range(60):
        history.add(served[n : n + 1])
        if n == 40:
            history.refresh()
    new = events(1, start=start_of(DAY + timedelta(1)), prefix="new", cards=1)
    assert ids(history.related(new)) == ids(pl.concat([served, new]))


def test_served_events_get_an_index_while_the_lake_is_away(
    history: History, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.refresh()
    served, passed_over = events(60, start=start_of(DAY), cards=1), []

    def away(*_: Any) -> Any:
        raise LakeUnavailable("The lake", found="no answer", wanted="an answer", remedy="Wait.")

    def watched(hashes: Hashes, wanted: Hashes) -> Positions:
        passed_over.append(len(hashes))
        return find_unsorted(hashes, wanted)

    for name in ("get", "put", "list"):
        monkeypatch.setattr(type(lake.objects), name, away)
    monkeypatch.setattr(history_module, "find_unsorted", watched)
    for n in range(60):
        history.add(served[n : n + 1])
        with pytest.raises(LakeUnavailable):
            history.refresh()
    new = events(1, start=start_of(DAY + timedelta(1)), prefix="new", cards=1)
    assert ids(history.related(new)) == ids(pl.concat([served, new]))
    assert max(passed_over) <= 21


def test_an_event_is_counted_once_however_often_it_comes(history: History, lake: Lake) -> None:
    rows = events(10, start=start_of(DAY), cards=1)
    write_clean(lake, DAY, rows[:5])
    history.refresh()
    history.add(rows)
    history.add(rows)
    assert ids(history.related(rows[9:])) == ids(rows)
    assert history.num_rows == 10


def test_a_new_clean_day_replaces_the_served_rows_it_holds(history: History, lake: Lake) -> None:
    rows = events(10, start=start_of(DAY), cards=1)
    history.refresh()
    history.add(rows)
    corrected = rows.with_columns(amount_cents=pl.lit(77, pl.Int64))
    write_clean(lake, DAY, corrected[:8])
    history.refresh()
    related = history.related(events(1, start=start_of(DAY + timedelta(1)), prefix="new", cards=1)).sort("event_time")
    assert related["amount_cents"][:8].to_list() == [77] * 8
    assert ids(related) == ids(pl.concat([rows.select(related.columns), related.filter(transaction_id="new0")]))


def test_only_the_longest_window_is_kept(history: History, lake: Lake) -> None:
    for n in range(10):
        write_clean(lake, DAY + timedelta(n), events(5, start=start_of(DAY + timedelta(n)), prefix=f"{n}-"))
    history.refresh()
    assert history.num_rows == 7 * 5
    write_clean(lake, DAY + timedelta(10), events(5, start=start_of(DAY + timedelta(10)), prefix="10-"))
    history.refresh()
    assert history.num_rows == 7 * 5


def test_an_empty_key_relates_to_nothing(fraud: Pipeline, lake: Lake) -> None:
    window = fraud.features.windows["card_count_1h"].model_copy(update={"by": ("device_id",)})
    features = fraud.features.model_copy(update={"windows": {**fraud.features.windows, "card_count_1h": window}})
    history = History(fraud.model_copy(update={"features": features}), lake, tail_rows=20)
    history.refresh()
    history.add(events(10, start=start_of(DAY), cards=1))
    new = events(1, start=start_of(DAY), prefix="new", cards=1).with_columns(
        card_id=pl.lit("c"), merchant_id=pl.lit("m")
    )
    assert ids(history.related(new)) == ["new0"]


def test_one_event_far_in_the_future_forgets_nothing(history: History) -> None:
    history.refresh()
    history.add(events(200, start=start_of(DAY), cards=1))
    history.add(events(1, start=start_of(date(2150, 1, 1)), prefix="far", cards=1))
    history.refresh()
    assert history.num_rows == 201


def test_wider_keys_are_covered_by_narrower_ones() -> None:
    assert narrowest([("a", "b"), ("a",), ("c", "b"), ("b", "c"), ("a", "c")]) == [("a",), ("b", "c")]


def test_sorted_and_unsorted_search_agree() -> None:
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 50, 500).astype(np.uint64)
    wanted = np.unique(rng.integers(0, 80, 20).astype(np.uint64))
    expected = np.flatnonzero(np.isin(hashes, wanted))
    assert np.sort(SortedHashes.of(hashes).find(wanted)).tolist() == expected.tolist()
    assert find_unsorted(hashes, wanted).tolist() == expected.tolist()
