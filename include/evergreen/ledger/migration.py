"""Bringing the ledger's schema to this code's revision."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from evergreen.errors import ConfigurationError
from evergreen.ledger.appending import lock
from evergreen.ledger.tables import SCHEMA

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: sa.Connection) -> None:
    """Returns when the schema is current; the caller's transaction makes it all or nothing.

    Two processes at once are fine: the second waits for the lock and finds nothing left to do. Raises
    ConfigurationError when the database is of a newer release than this code.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    lock(connection, "migration")
    connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"Schema {SCHEMA} of the ledger",
            found=str(error),
            wanted="a revision that this release knows",
            remedy="Upgrade this installation to the release that migrated the database last.",
        ) from error
