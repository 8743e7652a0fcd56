"""The check on features and a training set that the real code built from clean days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from evergreen.artifacts import DriftReport, Model, ObjectRef
from evergreen.features.build import refresh_features
from evergreen.features.training_set import build_training_set
from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.lake.tables import days_between
from evergreen.monitoring.check import REDEFINED, as_report, find_drift
from evergreen.monitoring.comparison import SCORE
from evergreen.pipeline import Pipeline

ROWS = 1500
PAGE = ObjectRef(path="page", digest="0" * 64, size_bytes=0)


def _clean(lake: Lake, day: date, *, cheap: float = 0.0, rows: int = ROWS) -> None:
    rng = np.random.default_rng(day.toordinal())
    moments = pl.Series(np.sort(rng.integers(0, 86_400_000_000, rows)), dtype=pl.Duration("us")) + start_of(day)
    amount = np.exp(rng.normal(8 - cheap, 1, rows)).astype(np.int64) + 1
    frame = pl.DataFrame(
        {
            "transaction_id": [f"{day}-{row}" for row in range(rows)],
            "card_id": [f"card{card}" for card in rng.integers(0, 150, rows)],
            "customer_id": ["c"] * rows,
            "merchant_id": [f"m{merchant}" for merchant in rng.integers(0, 40, rows)],
            "amount_cents": amount,
            "currency": ["EUR"] * rows,
            "mcc": rng.choice(["5411", "5812", "4111"], rows),
            "merchant_country": rng.choice(["DE", "FR"], rows, p=[0.9, 0.1]),
            "card_country": ["DE"] * rows,
            "channel": rng.choice(["chip", "online"], rows),
            "device_id": pl.Series([None] * rows, dtype=pl.String),
            "event_time": moments,
            "known_at": moments,
            "superseded_at": pl.Series([None] * rows, dtype=pl.Datetime("us", "UTC")),
        }
    )
    moment = pa.timestamp("us", "UTC")
    table = frame.to_arrow()
    types = {"amount_cents": pa.int64(), **dict.fromkeys(("event_time", "known_at", "superseded_at"), moment)}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in table.column_names])
    lake.table("clean", "fraud").replace_day(day, table.cast(schema))


def _label_until(lake: Lake, last: date) -> None:
    """Labels of the events of each day, which are reported the day after."""
    for day in days_between(date(2026, 9, 30), last):
        _labelled(lake, day)


def _labelled(lake: Lake, day: date) -> None:
    keys = [f"{day}-{row}" for row in range(0, ROWS, 50)]
    moments = pa.array([end_of(day)] * len(keys), pa.timestamp("us", "UTC"))
    columns = {"key": keys, "value": pa.array([1] * len(keys), pa.int8()), "event_time": moments, "known_at": moments}
    lake.table("labels", "fraud").replace_day(end_of(day).date(), pa.table(columns))


@pytest.fixture
def champion(fraud: Pipeline, lake: Lake, make_model: Callable[..., Model]) -> Model:
    """A model as of 2026-10-22 that learned from 2026-10-01 to 2026-10-15, the first days there are."""
    _label_until(lake, date(2026, 10, 22))
    for day in days_between(date(2026, 10, 1), date(2026, 10, 22)):
        _clean(lake, day)
    training_set = build_training_set(fraud, date(2026, 10, 22), lake)
    assert training_set.train_days == (date(2026, 10, 1), date(2026, 10, 15))
    return make_model(lake, fraud, as_of=training_set.as_of, training_set=training_set.digest)


def test_counts_cut_short_by_a_gap_in_history_are_no_drift(
    fraud: Pipeline, lake: Lake, make_model: Callable[..., Model]
) -> None:
    gap = days_between(date(2026, 10, 4), date(2026, 10, 6))
    _label_until(lake, date(2026, 10, 22))
    for day in days_between(date(2026, 10, 1), date(2026, 10, 23)):
        if day not in gap:
            _clean(lake, day)
    training_set = build_training_set(fraud, date(2026, 10, 22), lake)
    model = make_model(lake, fraud, as_of=training_set.as_of, training_set=training_set.digest)
    refresh_features(fraud, lake, date(2026, 10, 23), date(2026, 10, 23))
    report = _report(fraud, model, date(2026, 10, 23), lake)
    assert not report.drifted, report.reason
    counted = next(column for column in report.columns if column.column == "card_count_7d")
    assert counted.population_stability < 0.1


def _report(fraud: Pipeline, model: Model, day: date, lake: Lake) -> DriftReport:
    return as_report(find_drift(fraud, model, day, day, lake), PAGE)


def test_counts_cut_short_by_the_start_of_history_are_no_drift(fraud: Pipeline, lake: Lake, champion: Model) -> None:
    _clean(lake, date(2026, 10, 23))
    refresh_features(fraud, lake, date(2026, 10, 23), date(2026, 10, 23))
    report = _report(fraud, champion, date(2026, 10, 23), lake)
    assert not report.drifted, report.reason
    counted = next(column for column in report.columns if column.column == "card_count_7d")
    assert counted.population_stability < 0.1


def test_cheaper_purchases_drift_and_stale_features_are_rebuilt_first(
    fraud: Pipeline, lake: Lake, champion: Model
) -> None:
    day = date(2026, 10, 23)
    _clean(lake, day)
    assert not _report(fraud, champion, day, lake).drifted
    _clean(lake, day, cheap=1.5)
    report = _report(fraud, champion, day, lake)
    drifted = {column.column for column in report.columns if column.drifted}
    assert {"amount", "card_sum_1h", "amount_to_card_mean", "model score"} <= drifted
    assert not drifted & {"channel", "mcc", "card_count_7d", "hour", "weekday"}


def test_redefined_features_are_no_drift_and_the_old_model_does_not_score_them(
    fraud: Pipeline, lake: Lake, champion: Model
) -> None:
    day, features = date(2026, 10, 23), fraud.features
    _clean(lake, day)
    longer = features.windows["card_sum_1h"].model_copy(update={"over": "7d"})
    changed = {
        "windows": features.windows | {"card_sum_1h": longer},
        "expressions": features.expressions | {"amount": "amount_cents / 1"},
    }
    now = fraud.model_copy(update={"features": features.model_copy(update=changed)})
    found = find_drift(now, champion, day, day, lake)
    assert not found.comparison.drifted, found.reason
    assert [name for name, why in found.comparison.unjudged.items() if why == REDEFINED] == ["amount", "card_sum_1h"]
    assert "which the features no longer have as it learned it" in found.comparison.unjudged[SCORE]
    assert "card_count_7d" in {column.column for column in found.comparison.judged}


def test_a_day_of_which_every_row_was_refused_is_left_out(fraud: Pipeline, lake: Lake, champion: Model) -> None:
    refused, day = date(2026, 10, 23), date(2026, 10, 24)
    _clean(lake, refused, rows=0)
    _clean(lake, day)
    found = find_drift(fraud, champion, refused, day, lake)
    assert (found.rows, found.without_rows) == (ROWS, (refused,))
    assert not found.comparison.drifted, found.reason
