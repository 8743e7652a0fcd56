"""A real PostgreSQL for the session; a migrated ledger of a database of its own for each test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from evergreen.artifacts import Estimate, Evaluation, Model, Verdict
from evergreen.ledger.ledger import Ledger

DAY = date(2026, 11, 1)


@dataclass(frozen=True)
class Database:
    """One database of the session's server."""

    name: str
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://postgres@/{self.name}?host={self.folder}&connect_timeout=240"

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a statement run as a superuser, committed."""
        connection = psycopg2.connect(dbname=self.name, user="postgres", host=str(self.folder))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def tamper(self, statement: str, *values: object) -> None:
        """Runs a statement as an intruder with every right would: with the triggers switched off."""
        self.run(f"SET session_replication_role = replica; {statement}", *values)


@dataclass(frozen=True)
class Judged:
    """A model with the evaluation and verdict it is registered with."""

    model: Model
    evaluation: Evaluation
    verdict: Verdict

    def register(self, ledger: Ledger) -> Model:
        ledger.register(self.model, self.evaluation, self.verdict)
        return self.model


@pytest.fixture(scope="session")
def postgres(start_postgres: Callable[[], Any]) -> Any:
    """The running server."""
    return start_postgres()


@pytest.fixture(scope="session")
def new_database(postgres: Any) -> Callable[[str], Database]:
    """Makes an empty database of the given name."""

    def make(name: str) -> Database:
        server = Database("postgres", Path(postgres.get_postmaster_info().socket_dir))
        server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.run(f"CREATE DATABASE {name}")
        return Database(name, server.folder)

    return make


@pytest.fixture
def database(new_database: Callable[[str], Database]) -> Database:
    """An empty database."""
    return new_database("ledger")


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """An empty, migrated ledger."""
    made = Ledger(database.url)
    made.migrate()
    return made


@pytest.fixture(scope="session")
def judged() -> Callable[..., Judged]:
    """Makes the nouns of one version; only the names matter here."""

    def make(name: str, *, pipeline: str = "fraud", approved: bool = True, precision: float = 0.5) -> Judged:
        estimate = Estimate(value=precision, low=precision - 0.1, high=precision + 0.1)
        model = Model(
            pipeline=pipeline,
            version=name,
            as_of=datetime(2026, 11, 2, tzinfo=UTC),
            digest=f"digest of {name}",
            uri=f"models/{pipeline}/{name}",
            training_set="0" * 64,
            seed=7,
        )
        evaluation = Evaluation(
            pipeline=pipeline,
            version=name,
            training_set="0" * 64,
            holdout_days=(DAY, DAY),
            rows=100,
            positives=10,
            metrics={"average_precision": estimate},
            slices={},
        )
        verdict = Verdict(
            pipeline=pipeline, version=name, approved=approved, judged="absolute", champion=None, reasons=("good",)
        )
        return Judged(model, evaluation, verdict)

    return make
