"""A database that is gone is one sentence with its host, never its password; once back, all goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from evergreen.errors import ConfigurationError, LedgerUnavailable
from evergreen.ledger.ledger import Ledger


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_database_that_does_not_answer_names_its_host(closed_port: int) -> None:
    ledger = Ledger(f"postgresql+psycopg2://ann:s3cret@127.0.0.1:{closed_port}/evergreen")
    with pytest.raises(LedgerUnavailable) as refusal:
        ledger.current("fraud")
    said = str(refusal.value)
    assert f"Ledger at 127.0.0.1:{closed_port}, database evergreen" in said
    assert "Start the database" in said
    assert "\n" not in said
    assert "s3cret" not in said + repr(ledger) + repr(refusal.value.__cause__)
    assert refusal.value.retryable


def test_database_that_falls_silent_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://ann@127.0.0.1:{silent.getsockname()[1]}/evergreen?connect_timeout=2"
        with pytest.raises(LedgerUnavailable, match="timeout expired"):
            Ledger(url).migrate()


def test_database_that_does_not_exist_is_a_mistake_not_an_outage(database: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'"elsewhere" does not exist'):
        Ledger(database.url.replace("/ledger?", "/elsewhere?")).migrate()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///ledger.db"])
def test_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="EVERGREEN_DATABASE_URL"):
        Ledger(url)


def test_connection_lost_in_the_middle_leaves_nothing_half_written(
    ledger: Ledger, database: Any, judged: Callable[..., Any]
) -> None:
    judged("one").register(ledger)
    before = ledger.heads()
    # The server ends our session between the insert and the commit.
    database.run(
        "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; "
        "CREATE TRIGGER hang_up AFTER INSERT ON evergreen.model_versions EXECUTE FUNCTION hang_up()"
    )
    with pytest.raises(LedgerUnavailable, match=r"terminating connection|closed the connection"):
        judged("two").register(ledger)
    database.run("DROP TRIGGER hang_up ON evergreen.model_versions")
    assert ledger.heads() == before
    judged("two").register(ledger)
    assert [v.model.version for v in ledger.versions("fraud")] == ["one", "two"]
