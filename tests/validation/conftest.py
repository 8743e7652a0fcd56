"""Small raw days and specs, made row by row so that every test shows what it judges."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from evergreen.artifacts import RawBatch
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

DAY = date(2026, 11, 2)
SOUND = {
    "card_id": "card",
    "customer_id": "customer",
    "merchant_id": "merchant",
    "amount_cents": 100,
    "currency": "EUR",
    "mcc": "5411",
    "merchant_country": "DE",
    "card_country": "DE",
    "channel": "chip",
    "device_id": None,
}


@pytest.fixture
def raw_rows() -> Callable[..., pl.DataFrame]:
    """Makes a raw day: sound rows with what each dict says otherwise; `after` moves known_at, in seconds."""
    return _raw_rows


@pytest.fixture
def respecified() -> Callable[..., Pipeline]:
    """Makes a pipeline with other fields in some of its sections, validated anew."""
    return _respecified


def _raw_rows(*rows: dict[str, Any], day: date = DAY) -> pl.DataFrame:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    filled = []
    for number, row in enumerate(rows):
        given = {"transaction_id": f"t{number}", **SOUND, "event_time": noon, **row}
        given["known_at"] = given.get("known_at", noon + timedelta(seconds=given.pop("after", 1)))
        filled.append(given)
    times = dict.fromkeys(("event_time", "known_at"), pl.Datetime("us", "UTC"))
    return pl.DataFrame(filled, schema_overrides={"device_id": pl.String, "merchant_id": pl.String, **times})


def _respecified(pipeline: Pipeline, **sections: dict[str, Any]) -> Pipeline:
    spec = pipeline.model_dump()
    for name, fields in sections.items():
        spec[name] |= fields
    return Pipeline.model_validate(spec)


@pytest.fixture
def small(fraud: Pipeline) -> Pipeline:
    """The fraud pipeline with limits that suit a handful of rows."""
    return _respecified(fraud, validation={"max_bad_share": 0.9, "min_rows": 1})


@pytest.fixture
def ingest(lake: Lake) -> Callable[..., RawBatch]:
    """Puts frames, one a day, into the raw zone; the first is the batch's own day."""

    def put(*frames: pl.DataFrame, days: tuple[date, ...] = (DAY,)) -> RawBatch:
        table = lake.table("raw", "fraud")
        written = tuple(table.replace_day(d, _arrow(f)) for d, f in zip(days, frames, strict=True))
        return RawBatch(pipeline="fraud", day=days[0], days=written)

    return put


def _arrow(rows: pl.DataFrame) -> pa.Table:
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields))
