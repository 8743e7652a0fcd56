"""Alembic migrations of the ledger's schema, run by `evergreen.ledger.migration`."""
