"""A real PostgreSQL for the session, and a fresh database of it for each test."""

from __future__ import annotations

from collections.abc import Callable
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
        return f"postgresql://{user}@/{self.name}?host={self.folder}&connect_timeout=240"

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
def postgres(start_postgres: Callable[[], Any]) -> Any:
    """The running server."""
    return start_postgres()


@pytest.fixture
def empty_database(postgres: Any) -> Database:
    """A database without a table; one for all tests, wiped for each, as making one takes half a second."""
    folder = Path(postgres.get_postmaster_info().socket_dir)
    found = Database("source", folder)
    try:
        found.run("SELECT 1")
    except psycopg2.OperationalError:
        server = Database("postgres", folder)
        server.run("ALTER SYSTEM SET fsync = off")
        server.run("SELECT pg_reload_conf()")
        server.run("CREATE DATABASE source")
    found.run(
        'DROP SCHEMA IF EXISTS public, "Shop" CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public'
    )
    return found


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A database with the fraud pipeline's two tables, empty."""
    empty_database.run(CREATE)
    return empty_database
