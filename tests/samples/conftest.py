"""Fixtures of the sample source: a simulated month in small, and a real PostgreSQL to write to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import adbc_driver_postgresql.dbapi
import polars as pl
import pytest

from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import SampleDay, simulate_day

FIRST = date(2026, 10, 5)
SHIFT = FIRST + timedelta(days=21)


@pytest.fixture(scope="session")
def config() -> SampleConfig:
    """The default sample, shifting after three weeks."""
    return SampleConfig(shift_from=SHIFT)


@pytest.fixture(scope="session")
def month(config: SampleConfig) -> list[SampleDay]:
    """Three ordinary weeks, then three shifted days."""
    return [simulate_day(config, FIRST + timedelta(days=number)) for number in range(24)]


@pytest.fixture(scope="session")
def ordinary(month: list[SampleDay]) -> pl.DataFrame:
    """Sound transactions of the three ordinary weeks, once each, with the truth beside them."""
    return pl.concat([with_truth(sample) for sample in month[:21]])


def with_truth(sample: SampleDay) -> pl.DataFrame:
    sound = sample.truth.filter(pl.col("broken").is_null())
    first = sample.transactions.unique("transaction_id", keep="first", maintain_order=True)
    return first.join(sound, on="transaction_id").with_columns(
        pl.col("mcc").str.strip_chars(),
        pl.col("merchant_country", "card_country").str.strip_chars().str.to_uppercase(),
    )


@pytest.fixture(scope="session")
def postgres(start_postgres: Callable[[], Any]) -> Any:
    """The running server."""
    return start_postgres()


@pytest.fixture
def url(postgres: Any) -> str:
    """An empty database."""
    execute(postgres.get_uri(), "DROP DATABASE IF EXISTS samples WITH (FORCE)")
    execute(postgres.get_uri(), "CREATE DATABASE samples")
    return str(postgres.get_uri("samples"))


def execute(url: str, statement: str) -> None:
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.fixture
def read(url: str) -> Callable[[str], pl.DataFrame]:
    """Runs a query in that database."""

    def run(query: str) -> pl.DataFrame:
        with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return pl.DataFrame(cursor.fetch_arrow_table())

    return run
