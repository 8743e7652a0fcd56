"""The ledger's database: transactions on it, and its failures in plain words without its password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import exc

from evergreen.errors import ConfigurationError, EvergreenError, LedgerUnavailable

CONNECT_TIMEOUT_SECONDS = "10"
NOT_MIGRATED = ("42P01", "3F000")
"""SQLSTATE of an undefined table and of an undefined schema."""
REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry")
"""What libpq says when it answered but will not let us in; it sets no SQLSTATE then."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database by SQLAlchemy URL."""

    url: str = field(repr=False)
    engine: sa.Engine = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", _engine(self.url))

    @property
    def place(self) -> str:
        """Host (or socket directory) and database name, for messages."""
        url = self.engine.url
        host = url.host or url.query.get("host") or "the local socket"
        port = f":{url.port}" if url.port else ""
        return f"{host}{port}, database {url.database}"

    @contextmanager
    def transaction(self, *, isolation: str = "READ COMMITTED") -> Iterator[sa.Connection]:
        """A connection in a transaction that commits when the block ends well.

        Raises LedgerUnavailable when the database does not answer, ConfigurationError when it refuses us
        or has no ledger yet.
        """
        try:
            with self.engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
                yield connection
        except (exc.OperationalError, exc.InterfaceError, exc.InternalError) as error:
            raise self._unavailable(error) from error
        except exc.ProgrammingError as error:
            if getattr(error.orig, "pgcode", None) not in NOT_MIGRATED:
                raise
            raise ConfigurationError(
                f"Ledger at {self.place}",
                found="no tables of the ledger",
                wanted="a migrated database",
                remedy="Run `evergreen prepare`, or on one machine `evergreen up`.",
            ) from error

    def _unavailable(self, error: exc.DBAPIError) -> EvergreenError:
        said = self._said(error)
        if any(word in said for word in REFUSALS):
            return ConfigurationError(
                f"Ledger at {self.place}",
                found=said,
                wanted="a database that lets us in",
                remedy="Correct user, password or database in EVERGREEN_DATABASE_URL.",
            )
        return LedgerUnavailable(
            f"Ledger at {self.place}",
            found=said,
            wanted="a PostgreSQL that answers",
            remedy="Start the database or check EVERGREEN_DATABASE_URL, then run the task again.",
        )

    def _said(self, error: exc.DBAPIError) -> str:
        """The server's first line, without the password even if it should repeat it."""
        line = (str(error.orig).strip().splitlines() or ["no answer"])[0].rstrip(".")
        password = self.engine.url.password
        return line.replace(str(password), "***") if password else line


def _engine(text: str) -> sa.Engine:
    try:
        url = sa.make_url(text)
    except exc.ArgumentError as error:
        raise _not_postgresql("text that is no URL") from error
    if url.get_backend_name() != "postgresql":
        raise _not_postgresql(f"a URL of {url.get_backend_name()}")
    url = url.set(drivername="postgresql+psycopg2")
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": CONNECT_TIMEOUT_SECONDS})
    # No pool: tasks fork, calls are few, and a restarted database is found again by itself.
    return sa.create_engine(url, poolclass=sa.NullPool)


def _not_postgresql(found: str) -> ConfigurationError:
    return ConfigurationError(
        "EVERGREEN_DATABASE_URL",
        found=found,
        wanted="postgresql+psycopg2://user:password@host/database",
        remedy="Correct the variable.",
    )
