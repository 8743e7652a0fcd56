"""What a source overwrites in place stays in the lake, as it was known; what it deletes does not."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from evergreen.errors import ConfigurationError
from evergreen.ingestion import overwritten
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.source import Source
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake, end_of
from evergreen.pipeline import Pipeline
from evergreen.validation.validate import validate_day

DAY = date(2026, 11, 2)
NEXT = date(2026, 11, 3)
MORNING = "2026-11-02 05:00:00+00"
UPDATE = "UPDATE transactions SET amount_cents = %(amount)s, known_at = %(at)s WHERE transaction_id = %(key)s"


@pytest.fixture
def source(database, fraud: Pipeline) -> Source:
    """A source with the events a and b on DAY and one on NEXT."""
    for key, moment in (("a", MORNING), ("b", MORNING), ("next", "2026-11-03 05:00:00+00")):
        database.add(key, moment)
    return open_source(fraud, database.url)


@pytest.fixture
def small(fraud: Pipeline) -> Pipeline:
    """The pipeline with a day of a few rows allowed."""
    return respecified(fraud, validation={"min_rows": 1})


def respecified(pipeline: Pipeline, **sections: dict[str, Any]) -> Pipeline:
    spec = pipeline.model_dump()
    for name, fields in sections.items():
        spec[name] |= fields
    return Pipeline.model_validate(spec)


def raw(lake: Lake) -> list[tuple[str, int]]:
    """Key and amount of each row of DAY, as raw has them."""
    rows = lake.table("raw", "fraud").read([DAY])
    return list(zip(rows["transaction_id"].to_pylist(), rows["amount_cents"].to_pylist(), strict=True))


def known(lake: Lake, day: date) -> dict[str, int]:
    """Key -> amount of the events of DAY as they were known when `day` ended."""
    rows = lake.read("clean", "fraud", as_of=end_of(day), since=end_of(date(2026, 11, 1)), until=end_of(DAY)).read_all()
    return dict(zip(rows["transaction_id"].to_pylist(), rows["amount_cents"].to_pylist(), strict=True))


def test_version_that_was_overwritten_is_what_was_known_then(
    database, source: Source, small: Pipeline, lake: Lake
) -> None:
    validate_day(small, ingest_day(small, source, DAY, lake), lake)
    database.run(UPDATE, key="a", amount=7, at="2026-11-03 09:00+00")
    batch = ingest_day(small, source, NEXT, lake)
    assert [day.day for day in batch.days] == [NEXT, DAY]
    validate_day(small, batch, lake)
    assert known(lake, DAY) == {"a": 100, "b": 100}
    assert known(lake, NEXT) == {"a": 7, "b": 100}


def test_every_version_stays_and_the_same_source_gives_the_same_bytes(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    ingest_day(fraud, source, DAY, lake)
    for amount in (7, 8):
        database.run(UPDATE, key="a", amount=amount, at=f"2026-11-03 0{amount}:00+00")
        first = ingest_day(fraud, source, DAY, lake)
        assert ingest_day(fraud, source, DAY, lake) == first
    assert raw(lake) == [("a", 8), ("b", 100), ("a", 7), ("a", 100)]


def test_day_with_overwritten_versions_is_no_changed_day_for_ever(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    ingest_day(fraud, source, DAY, lake)
    database.run(UPDATE, key="a", amount=7, at="2026-11-03 09:00+00")
    assert [day.day for day in ingest_day(fraud, source, NEXT, lake).days] == [NEXT, DAY]
    assert [day.day for day in ingest_day(fraud, source, NEXT, lake).days] == [NEXT]


def test_key_that_is_gone_from_the_source_goes_with_all_its_versions(
    database, source: Source, fraud: Pipeline, lake: Lake
) -> None:
    ingest_day(fraud, source, DAY, lake)
    database.run(UPDATE, key="a", amount=7, at="2026-11-03 09:00+00")
    ingest_day(fraud, source, DAY, lake)
    database.run("DELETE FROM transactions WHERE transaction_id = 'a'")
    ingest_day(fraud, source, DAY, lake)
    assert raw(lake) == [("b", 100)]


@pytest.mark.parametrize("at", [MORNING, "2026-11-02 04:00:00+00", None])
def test_version_without_a_later_one_is_replaced(
    database, source: Source, fraud: Pipeline, lake: Lake, at: str | None
) -> None:
    ingest_day(fraud, source, DAY, lake)
    database.run(UPDATE, key="a", amount=7, at=at)
    ingest_day(fraud, source, DAY, lake)
    assert sorted(raw(lake)) == [("a", 7), ("b", 100)]


def test_versions_are_found_however_few_rows_are_compared_at_once(
    database, source: Source, fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwritten, "ROWS_AT_ONCE", 3)
    for number in range(20):
        database.add(f"k{number}", MORNING, amount=number + 1)
    ingest_day(fraud, source, DAY, lake)
    database.run(
        "UPDATE transactions SET amount_cents = 0, known_at = '2026-11-03 09:00+00' WHERE transaction_id <> 'b'"
    )
    first = ingest_day(fraud, source, DAY, lake)
    assert sorted(amount for _, amount in raw(lake)) == [0] * 21 + list(range(1, 21)) + [100, 100]
    assert ingest_day(fraud, source, DAY, lake) == first


def test_version_of_before_a_column_came_lacks_its_value(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    ingest_day(fraud, source, DAY, lake)
    database.run("ALTER TABLE transactions ADD COLUMN tip bigint DEFAULT 5")
    database.run(UPDATE, key="a", amount=7, at="2026-11-03 09:00+00")
    columns = fraud.model_dump()["contract"]["columns"] | {"tip": {"type": "integer", "nullable": True}}
    tipped = respecified(fraud, contract={"columns": columns})
    ingest_day(tipped, open_source(tipped, database.url), DAY, lake)
    assert lake.table("raw", "fraud").read([DAY])["tip"].to_pylist() == [5, 5, None]


def test_key_of_another_type_is_refused_by_name(database, source: Source, fraud: Pipeline, lake: Lake) -> None:
    before = ingest_day(fraud, source, DAY, lake)
    database.run("ALTER TABLE transactions ALTER COLUMN transaction_id TYPE bigint USING ascii(transaction_id)")
    with pytest.raises(ConfigurationError, match="Column transaction_id of raw/fraud"):
        ingest_day(fraud, source, DAY, lake)
    assert lake.table("raw", "fraud").day(DAY) == before.days[0]


def test_rows_stay_in_the_batches_they_came_in(tmp_path: Path) -> None:
    """A day of which nothing was overwritten has the bytes it would have without a look."""
    moments = pa.array([0, 1], pa.timestamp("us", "UTC"))
    rows = pa.table({"key": ["a", "b"], "event_time": moments, "known_at": moments})
    reader = pa.RecordBatchReader.from_batches(rows.schema, [rows[:1].to_batches()[0], rows[1:].to_batches()[0]])
    pq.write_table(rows, tmp_path / "day.parquet")
    found = overwritten.with_overwritten(reader, ds.dataset(tmp_path / "day.parquet"), "key").read_all()
    assert found.equals(rows)
    assert found["key"].num_chunks == 2
