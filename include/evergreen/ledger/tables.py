"""The ledger's three tables as SQLAlchemy sees them; the migrations make them.

Every row is one link of its table's chain: `sequence` counts from 1 without gaps, `hash` covers all
other columns.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

SCHEMA = "evergreen"
metadata = sa.MetaData(schema=SCHEMA)


class Instant(sa.TypeDecorator[datetime]):
    """An aware instant in UTC, whatever time zone the session of the database has."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; the ledger takes aware times only")
        return value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)


# JSON, not JSONB: JSONB rewrites numbers (1e22 becomes an integer), and the hash would no longer fit.
model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("model", sa.JSON, nullable=False),
    sa.Column("evaluation", sa.JSON, nullable=False),
    sa.Column("verdict", sa.JSON, nullable=False),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
"""One registration: a version with its evaluation and verdict."""

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("from_version", sa.Text, nullable=True),
    sa.Column("to_version", sa.Text, nullable=False),
    sa.Column("model_uri", sa.Text, nullable=False),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
"""One change of what serves. `evidence` is the hash of the registration that was deployed."""

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("decided_at", Instant, nullable=False),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("decision", sa.JSON, nullable=False),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
"""One decision of the governor about a day."""

CHAINS = (model_versions, deployments, decisions)
