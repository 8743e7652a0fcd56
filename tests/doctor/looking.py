"""What the doctor's tests do with checks and databases."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg2

from evergreen.doctor.check import Check


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    """The checks by their names."""
    return {check.name: check for check in checks}


def states(checks: Iterable[Check]) -> dict[str, str]:
    """State by name."""
    return {name: check.state for name, check in by_name(checks).items()}


def run_sql(url: str, statement: str) -> None:
    """Runs a statement as a superuser, committed."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()
