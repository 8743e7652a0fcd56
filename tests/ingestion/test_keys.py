"""An event and its label meet whatever types their tables give the key, and two ids never become one."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from evergreen.errors import ConfigurationError
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.validation.validate import validate_day

DAY = date(2026, 11, 2)
MORNING = "2026-11-02 05:00:00+00"
BIG = 2**53


def keyed_by(pipeline: Pipeline, type: str) -> Pipeline:
    """The pipeline with a key of `type`, and a day of a few rows allowed."""
    spec: dict[str, Any] = pipeline.model_dump()
    spec["contract"]["columns"]["transaction_id"]["type"] = type
    spec["validation"] |= {"min_rows": 1}
    return Pipeline.model_validate(spec)


def ingested(pipeline: Pipeline, url: str, lake: Lake) -> tuple[list[str], list[str]]:
    """Keys of the clean events and of the labels, as a training set compares them."""
    validate_day(pipeline, ingest_day(pipeline, open_source(pipeline, url), DAY, lake), lake)
    events = pl.DataFrame(lake.table("clean", "fraud").read([DAY]))
    labels = pl.DataFrame(lake.table("labels", "fraud").read([DAY]))
    return events["transaction_id"].cast(pl.String).sort().to_list(), labels["key"].sort().to_list()


@pytest.mark.parametrize(
    ("contract", "event", "label", "values"),
    [
        ("string", "numeric(10,0)", "numeric(10,0)", ("12", "13")),
        ("string", "numeric(10,2)", "bigint", ("12", "12.5")),
        ("string", "double precision", "text", ("12", "13")),
        ("string", "bigint", "numeric(10,0)", ("12", "13")),
        ("string", "char(6)", "text", ("12", "ab")),
        ("string", "date", "date", ("2026-11-01", "2026-11-02")),
        ("integer", "numeric(19,0)", "numeric(19,0)", (f"{BIG}", f"{BIG + 1}")),
        ("integer", "numeric(10,2)", "bigint", ("12", "13")),
        ("integer", "bigint", "numeric(10,2)", ("12", "13")),
        ("integer", "text", "text", (" 012", "13")),
        ("integer", "bigint", "char(6)", ("12", "13")),
    ],
)
def test_event_and_label_meet_by_key(
    database, fraud: Pipeline, lake: Lake, contract: str, event: str, label: str, values: tuple[str, str]
) -> None:
    for value in values:
        database.add(value, MORNING)
    database.run("INSERT INTO chargebacks VALUES (%(key)s, %(at)s, '')", key=values[0], at=MORNING)
    for table, type in (("transactions", event), ("chargebacks", label)):
        database.run(f"ALTER TABLE {table} ALTER COLUMN transaction_id TYPE {type} USING transaction_id::{type}")
    events, labels = ingested(keyed_by(fraud, contract), database.url, lake)
    assert len(set(events)) == 2
    assert set(labels) < set(events)


def test_label_whose_key_is_no_integer_names_no_event(database, fraud: Pipeline, lake: Lake) -> None:
    database.add("12", MORNING)
    database.run("INSERT INTO chargebacks VALUES ('twelve', %(at)s, '')", at=MORNING)
    assert ingested(keyed_by(fraud, "integer"), database.url, lake) == (["12"], ["twelve"])


@pytest.mark.parametrize(
    ("contract", "type", "values"),
    [
        ("integer", "numeric(20,0)", (BIG, BIG + 1)),
        ("string", "numeric(20,0)", (f"{BIG}", f"{BIG + 1}")),
        ("string", "numeric(10,2)", ("12", "12.5")),
        ("string", "double precision", ("12", "12.5")),
        ("integer", "bigint", (BIG, BIG + 1)),
        ("integer", "double precision", (10**15, 10**15 + 1)),
        ("string", "bigint", (f"{BIG}", f"{BIG + 1}")),
    ],
)
def test_other_ids_keep_every_digit_and_are_written_as_clients_write_them(
    database, fraud: Pipeline, lake: Lake, contract: str, type: str, values: tuple[int | str, int | str]
) -> None:
    spec: dict[str, Any] = fraud.model_dump()
    spec["contract"]["columns"]["card_id"]["type"] = contract
    spec["validation"] |= {"min_rows": 1}
    pipeline = Pipeline.model_validate(spec)
    for value in values:
        database.add(f"{value}", MORNING)
    database.run(f"ALTER TABLE transactions ALTER COLUMN card_id TYPE {type} USING transaction_id::{type}")
    ingested(pipeline, database.url, lake)
    cards = lake.table("clean", "fraud").read([DAY])["card_id"].to_pylist()
    assert sorted(cards) == sorted(values)


def test_id_of_a_lake_that_has_it_as_doubles_is_refused_by_name(database, fraud: Pipeline, lake: Lake) -> None:
    rows = pa.table({"transaction_id": ["a"], "card_id": [12.0]})
    before = lake.table("raw", "fraud").replace_day(DAY, rows)
    database.add("a", MORNING)
    database.run("ALTER TABLE transactions ALTER COLUMN card_id TYPE numeric(20,0) USING 12")
    with pytest.raises(ConfigurationError, match=r"Column card_id of raw/fraud: found type .*string.*double"):
        ingest_day(fraud, open_source(fraud, database.url), DAY, lake)
    assert lake.table("raw", "fraud").day(DAY) == before
