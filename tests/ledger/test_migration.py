"""The schema is made once, by whoever comes first, and refuses to be changed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from evergreen.errors import ConfigurationError
from evergreen.ledger.appending import lock
from evergreen.ledger.ledger import Ledger
from evergreen.ledger.tables import SCHEMA, metadata


def _waiting(database: Any) -> int:
    return database.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[0][0]


def test_two_processes_migrate_at_once(database: Any) -> None:
    script = (
        "from evergreen.ledger import appending, ledger; appending.LOCK_WAIT = '10min';"
        f"ledger.Ledger({database.url!r}).migrate()"
    )
    engine = sa.create_engine(database.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        lock(connection, "migration")
        processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
        deadline = time.monotonic() + 120
        while _waiting(database) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _waiting(database) == 2
    assert [process.wait(120) for process in processes] == [0, 0]
    assert database.run("SELECT version_num FROM evergreen.alembic_version") == [("0001",)]


def test_migrating_again_keeps_every_row(ledger: Ledger, judged: Callable[..., Any]) -> None:
    judged("one").register(ledger)
    before = ledger.heads()
    ledger.migrate()
    assert ledger.heads() == before


def test_migrations_make_the_tables_the_code_expects(ledger: Ledger, database: Any) -> None:
    inspector = sa.inspect(sa.create_engine(database.url, poolclass=sa.NullPool))
    for table in metadata.sorted_tables:
        made = {c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns(table.name, schema=SCHEMA)}
        dialect = inspector.dialect
        wanted = {c.name: (str(c.type.dialect_impl(dialect).compile(dialect)), c.nullable) for c in table.columns}
        assert {k: v[1] for k, v in made.items()} == {k: v[1] for k, v in wanted.items()}
        assert {k: v[0].split(" ")[0] for k, v in made.items()} == {k: v[0].split(" ")[0] for k, v in wanted.items()}


@pytest.mark.parametrize("table", ["model_versions", "deployments", "decisions"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET pipeline = 'x'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
)
def test_rows_cannot_be_changed_even_by_a_superuser(table: str, statement: str, ledger: Ledger, database: Any) -> None:
    with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
        database.run(statement.format(f"evergreen.{table}"))


def test_database_of_a_newer_release_is_refused(ledger: Ledger, database: Any) -> None:
    database.run("UPDATE evergreen.alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=r"9999.*Upgrade this installation"):
        ledger.migrate()
