"""Settings of small real installations: a temporary lake, a real PostgreSQL, a local and a real cluster."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doctor.looking import run_sql
from evergreen.localcluster.pytest_plugin import local_cluster
from evergreen.settings import Settings

__all__ = ["local_cluster"]

Make = Callable[..., Settings]


@pytest.fixture
def settings_of(tmp_path: Path) -> Make:
    """Makes settings of an installation in a temporary directory from variables, as a user would set them."""

    def make(**variables: str) -> Settings:
        return Settings.from_environment({"EVERGREEN_HOME": str(tmp_path / "home"), **variables})

    return make


@pytest.fixture(scope="session")
def postgres_folder(start_postgres: Callable[[], Any]) -> Path:
    """Where a running PostgreSQL listens."""
    return Path(start_postgres().get_postmaster_info().socket_dir)


@pytest.fixture
def database_url(postgres_folder: Path) -> str:
    """URL of an empty database of one's own."""
    name = f"doctor_{uuid.uuid4().hex[:8]}"
    run_sql(f"postgresql://postgres@/postgres?host={postgres_folder}", f"create database {name}")
    return f"postgresql+psycopg2://postgres@/{name}?host={postgres_folder}"


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield int(silent.getsockname()[1])


@pytest.fixture
def password_url(start_postgres: Callable[[], Any]) -> str:
    """URL with password `right-one` of a real PostgreSQL that asks its user `ann` for it."""
    server = start_postgres()
    socket_folder = server.get_postmaster_info().socket_dir
    rules = Path(server.pgdata) / "pg_hba.conf"
    rules.write_text("local all ann scram-sha-256\n" + rules.read_text())
    admin = f"postgresql://postgres@/postgres?host={socket_folder}"
    run_sql(admin, "create role ann login password 'right-one'")
    run_sql(admin, "select pg_reload_conf()")
    return f"postgresql+psycopg2://ann:right-one@/postgres?host={socket_folder}"
