"""Adding a row to a chain, and reading a chain back. Callers hold the table's lock while they decide and append."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from evergreen.ledger.chain import EMPTY, Head, Link, hash_row

LOCK_NAMESPACE = 1_702_257_010
"""First half of the ledger's advisory locks; any constant that nobody else in the database uses."""
LOCK_WAIT = "30s"


def lock(connection: sa.Connection, name: str) -> None:
    """Returns when this transaction alone may write `name`; the lock ends with the transaction."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))
    statement = sa.text("SELECT pg_advisory_xact_lock(:namespace, hashtext(:name))")
    connection.execute(statement, {"namespace": LOCK_NAMESPACE, "name": name})


def append(connection: sa.Connection, table: sa.Table, content: Mapping[str, object]) -> int:
    """The sequence of the row just added; `content` is every column but sequence, prev_hash and hash."""
    before = head(connection, table)
    row = {**content, "sequence": before.sequence + 1}
    hashes = {"prev_hash": before.hash, "hash": hash_row(row, before.hash)}
    connection.execute(table.insert().values(**row, **hashes))
    return before.sequence + 1


def head(connection: sa.Connection, table: sa.Table) -> Head:
    """The last row's sequence and hash."""
    last = sa.select(table.c.sequence, table.c.hash).order_by(table.c.sequence.desc()).limit(1)
    row = connection.execute(last).one_or_none()
    return EMPTY if row is None else Head(sequence=row.sequence, hash=row.hash)


def links(connection: sa.Connection, table: sa.Table) -> Iterator[Link]:
    """Every row of the table in order of sequence, fetched in portions."""
    rows = connection.execution_options(yield_per=500).execute(sa.select(table).order_by(table.c.sequence))
    for row in rows.mappings():
        content = {name: value for name, value in row.items() if name not in ("prev_hash", "hash")}
        yield Link(sequence=row["sequence"], content=content, prev_hash=row["prev_hash"], hash=row["hash"])
