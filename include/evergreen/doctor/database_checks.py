"""The ledger's database: its version, its schema, its clock, and that nobody edited history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from evergreen.doctor.check import Check, failed, not_applicable, ok, refused
from evergreen.doctor.machine_checks import clock
from evergreen.errors import EvergreenError
from evergreen.lake.lake import Lake
from evergreen.ledger.anchor import read_anchor
from evergreen.ledger.chain import Anchor
from evergreen.ledger.database import Database
from evergreen.ledger.ledger import Ledger
from evergreen.ledger.migration import SCRIPTS
from evergreen.ledger.tables import SCHEMA
from evergreen.settings import Settings

OLDEST = 14
"""PostgreSQL's oldest release that Airflow 3.3 supports."""
MOST_SKEW_SECONDS = 60.0
"""Airflow's scheduler takes tasks for dead whose heartbeats seem that old."""
MIGRATE = "Run `evergreen prepare`, or on one machine `evergreen up`, with the release that is installed here."


def examine_database(settings: Settings) -> Iterator[Check]:
    """Stops at the first thing without which the rest says nothing."""
    try:
        database = Database(settings.database_url)
        with database.transaction() as connection:
            number = int(connection.execute(sa.text("show server_version_num")).scalar_one())
            now: datetime = connection.execute(sa.text("select clock_timestamp()")).scalar_one()
    except EvergreenError as error:
        yield refused("connection", error)
        return
    yield _version(database.place, number)
    yield clock("clock", (datetime.now(UTC) - now).total_seconds(), most=MOST_SKEW_SECONDS, whose="the database")
    schema = _schema(database)
    yield schema
    if schema.state == "ok":
        yield from _history(settings)


def _version(place: str, number: int) -> Check:
    major = number // 10_000
    if major < OLDEST:
        return failed("connection", f"PostgreSQL {major} at {place}", f"Upgrade it to {OLDEST} or later.")
    return ok("connection", f"PostgreSQL {major}.{number % 10_000} at {place}")


def _schema(database: Database) -> Check:
    name = "ledger's schema"
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    wanted = ScriptDirectory.from_config(config).get_current_head()
    try:
        with database.transaction() as connection:
            version = sa.table("alembic_version", sa.column("version_num"), schema=SCHEMA)
            found = connection.execute(sa.select(version.c.version_num)).scalar()
    except EvergreenError as error:
        return refused(name, error)
    if found != wanted:
        return failed(name, f"revision {found}, and this release has {wanted}", MIGRATE)
    return ok(name, f"revision {found}")


def _history(settings: Settings) -> Iterator[Check]:
    """Once by itself, and once more against the anchor, which takes a lake that answers."""
    ledger = Ledger(settings.database_url)
    yield _chain(ledger, None, "ledger's chain")
    try:
        anchor = read_anchor(Lake(settings.lake_url, settings.lake_options))
    except EvergreenError as error:
        yield refused("ledger's anchor", error)
        return
    if anchor is None and any(head.sequence for head in ledger.heads().heads.values()):
        yield failed("ledger's anchor", "none, though the ledger has rows", "Correct EVERGREEN_LAKE_URL.")
        return
    yield (
        _chain(ledger, anchor, "ledger's anchor")
        if anchor
        else not_applicable("ledger's anchor", "nothing recorded yet")
    )


def _chain(ledger: Ledger, anchor: Anchor | None, name: str) -> Check:
    findings = ledger.verify(anchor)
    if findings:
        remedy = "Compare with a backup of the database; `evergreen audit verify` lists every finding."
        return failed(name, "; ".join(str(finding) for finding in findings[:3]), remedy)
    return ok(name, "no row edited or missing")
