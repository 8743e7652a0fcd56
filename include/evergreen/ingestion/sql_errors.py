"""PostgreSQL's failures in Evergreen's words: which are worth a retry, and what a person should mend.

The messages never carry the driver's text of a failed connection: it may quote parts of a password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adbc_driver_manager import dbapi

from evergreen.errors import ConfigurationError, DataError, EvergreenError, SourceUnavailable

REFUSED: Mapping[str, str] = {
    "password authentication failed": "a wrong password or user",
    "no password supplied": "no password, though the server asks for one",
    "does not exist": "no such database or user",
    "no pg_hba.conf entry": "a server that does not admit this user from here",
    "invalid port number": "a port that is none",
    "invalid URI query parameter": "an unknown option in the URL",
    "permission denied for database": "a user who may not connect to the database",
}
"""What libpq says of a connection that a retry cannot mend -> what that means."""

UNREADABLE = ("out of range", "invalid input syntax", "invalid byte sequence", "cannot cast", "Integer value")
"""What a failed conversion says in the middle of a stream, where the SQLSTATE is lost."""


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Nothing, but a failed connection leaves as ConfigurationError or SourceUnavailable."""
    try:
        yield
    except (dbapi.Error, OSError) as error:
        raise _refusal(where, str(error)) from None


@contextmanager
def querying(where: str, table: str) -> Iterator[None]:
    """Nothing, but a failed statement or stream leaves as ConfigurationError, DataError or SourceUnavailable."""
    try:
        yield
    except dbapi.Error as error:
        raise _by_state(where, table, error.sqlstate or "", str(error)) from error
    except (OSError, ValueError) as error:
        readable = not any(sign in str(error) for sign in UNREADABLE)
        raise _gone(where, error) if readable else _unreadable(table, str(error)) from error


def _refusal(where: str, text: str) -> EvergreenError:
    for sign, meaning in REFUSED.items():
        if sign in text:
            return ConfigurationError(
                f"Source database {where}",
                found=meaning,
                wanted="a connection that the server accepts",
                remedy="Correct the connection that the spec's source.connection names.",
            )
    return SourceUnavailable(
        f"Source database {where}",
        found="no answer",
        wanted="a PostgreSQL that accepts connections",
        remedy="Start it or mend the network, then run the task again; nothing was written.",
    )


def _by_state(where: str, table: str, state: str, text: str) -> EvergreenError:
    if state.startswith("22"):
        return _unreadable(table, text)
    if state == "42501":
        return ConfigurationError(
            f"Table {table} of {where}",
            found="no permission to read it",
            wanted="SELECT on the table",
            remedy=f"Grant it: GRANT SELECT ON {table} TO the connection's user.",
        )
    if state.startswith(("42", "3F")):
        return ConfigurationError(
            f"Table {table} of {where}",
            found=_first_line(text),
            wanted="a table that fits the spec",
            remedy="Correct the spec's source, contract or label.",
            details=text,
        )
    return _gone(where, text)


def _unreadable(table: str, text: str) -> DataError:
    return DataError(
        f"Table {table}",
        found=_first_line(text),
        wanted="values that fit 64-bit numbers and UTF-8 text",
        remedy="Mend the value at the source, or give the source a view that converts it; nothing was written.",
        details=text,
    )


def _gone(where: str, error: Exception | str) -> SourceUnavailable:
    return SourceUnavailable(
        f"Source database {where}",
        found=f"a connection lost in the middle of reading ({_first_line(str(error))})",
        wanted="every row of the day",
        remedy="Run the task again when the database is back; nothing was written.",
        details=str(error),
    )


def _first_line(text: str) -> str:
    """The first line, from PostgreSQL's own word on; of a long one, both ends."""
    line = (text.splitlines() or [""])[0]
    for sign in ("ERROR:", "FATAL:"):
        line = line.rpartition(sign)[2].strip()
    return line if len(line) <= 120 else f"{line[:40]} ... {line[-75:]}"


def table_missing(table: str, where: str) -> ConfigurationError:
    """The error for a table that is not there, or that this user cannot see."""
    return ConfigurationError(
        f"Table {table} of {where}",
        found="no such table or view",
        wanted="the table that the spec names",
        remedy="Create it, let this user see its schema, or correct the spec's source.table or label.table.",
    )
