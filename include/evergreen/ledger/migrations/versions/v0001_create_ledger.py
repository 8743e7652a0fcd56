"""The three chains, and the trigger that makes them append-only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

SCHEMA = "evergreen"
CHAINED = ("prev_hash", "hash")


def upgrade() -> None:
    """Create the tables; a migration is frozen, so they are spelled out here and not taken from the code."""
    instant: sa.types.TypeEngine[Any] = sa.DateTime(timezone=True)
    _create("model_versions", {"registered_at": instant}, texts=("version",), json=("model", "evaluation", "verdict"))
    texts = ("to_version", "model_uri", "model_digest", "actor", "reason", "evidence")
    _create("deployments", {"at": instant}, sa.Column("from_version", sa.Text, nullable=True), texts=texts)
    _create("decisions", {"decided_at": instant, "day": sa.Date()}, json=("decision",))
    op.create_index("model_versions_version", "model_versions", ["pipeline", "version"], schema=SCHEMA)
    op.create_index("deployments_at", "deployments", ["pipeline", "at"], schema=SCHEMA)
    op.create_index("decisions_day", "decisions", ["pipeline", "day"], schema=SCHEMA)
    op.execute(
        f"""
        CREATE FUNCTION {SCHEMA}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the ledger is append-only: % of %.% refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME;
        END $$
        """
    )
    for table in ("model_versions", "deployments", "decisions"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse_change()"
        )


def downgrade() -> None:
    """Refused: going back would drop history."""
    raise NotImplementedError("the ledger is append-only; restore a backup instead")


def _create(
    name: str,
    typed: dict[str, sa.types.TypeEngine[Any]],
    *columns: sa.Column[Any],
    texts: tuple[str, ...] = (),
    json: tuple[str, ...] = (),
) -> None:
    op.create_table(
        name,
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(column, kind, nullable=False) for column, kind in typed.items()),
        *(sa.Column(column, sa.Text, nullable=False) for column in ("pipeline", *texts, *CHAINED)),
        *(sa.Column(column, sa.JSON, nullable=False) for column in json),
        *columns,
        sa.UniqueConstraint("prev_hash", name=f"{name}_no_fork"),
        sa.UniqueConstraint("hash", name=f"{name}_hash"),
        schema=SCHEMA,
    )
