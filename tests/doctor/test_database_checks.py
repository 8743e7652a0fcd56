"""A database that works, and ones that are empty, edited, closed or of another user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from doctor.conftest import Make
from doctor.looking import by_name, run_sql, states
from evergreen.artifacts import Evaluation, Model, Verdict
from evergreen.doctor.check import Check
from evergreen.doctor.database_checks import _version, examine_database
from evergreen.doctor.machine_checks import clock
from evergreen.doctor.secrecy import without_secrets
from evergreen.lake.lake import Lake
from evergreen.ledger.anchor import write_anchor
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline import Pipeline


def test_migrated_ledger_is_well(settings_of: Make, database_url: str) -> None:
    Ledger(database_url).migrate()
    found = states(examine_database(settings_of(EVERGREEN_DATABASE_URL=database_url)))
    expected = {"connection": "ok", "clock": "ok", "ledger's schema": "ok", "ledger's chain": "ok"}
    assert found == expected | {"ledger's anchor": "not applicable"}


def test_empty_database_wants_a_migration(settings_of: Make, database_url: str) -> None:
    found = by_name(examine_database(settings_of(EVERGREEN_DATABASE_URL=database_url)))
    assert found["connection"].state == "ok"
    assert found["ledger's schema"].state == "failed"
    assert "evergreen prepare" in found["ledger's schema"].remedy


def test_schema_of_another_release_is_named(settings_of: Make, database_url: str) -> None:
    Ledger(database_url).migrate()
    run_sql(database_url, "update evergreen.alembic_version set version_num = 'v9999'")
    found = by_name(examine_database(settings_of(EVERGREEN_DATABASE_URL=database_url)))
    assert found["ledger's schema"].state == "failed"
    assert "v9999" in found["ledger's schema"].found


def test_edited_row_breaks_the_chain(
    settings_of: Make, database_url: str, lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]
) -> None:
    ledger = Ledger(database_url)
    ledger.migrate()
    _register(ledger, make_model(lake, fraud))
    write_anchor(ledger, lake)
    settings = settings_of(EVERGREEN_DATABASE_URL=database_url, EVERGREEN_LAKE_URL=lake.url)
    assert states(examine_database(settings))["ledger's anchor"] == "ok"
    edit = "update evergreen.model_versions set version = 'another'"
    run_sql(database_url, f"set session_replication_role = replica; {edit}")
    found = by_name(examine_database(settings))
    assert found["ledger's chain"].state == "failed"
    assert "edited" in found["ledger's chain"].found


def _register(ledger: Ledger, model: Model) -> None:
    names = {"pipeline": model.pipeline, "version": model.version}
    day = date(2026, 11, 1)
    evaluation = Evaluation(
        **names, training_set="0" * 64, holdout_days=(day, day), rows=9, positives=3, metrics={}, slices={}
    )
    verdict = Verdict(**names, approved=True, judged="absolute", champion=None, reasons=("good",))
    ledger.register(model, evaluation, verdict)


def test_closed_port_is_one_finding_with_a_remedy(settings_of: Make, closed_port: int) -> None:
    settings = settings_of(
        EVERGREEN_DATABASE_URL=f"postgresql+psycopg2://ann:pa55word@127.0.0.1:{closed_port}/evergreen"
    )
    checks = list(examine_database(settings))
    assert [check.state for check in checks] == ["failed"]
    assert str(closed_port) in checks[0].found
    assert "EVERGREEN_DATABASE_URL" in checks[0].remedy


def test_wrong_password_is_refused_and_not_repeated(settings_of: Make, password_url: str) -> None:
    assert states(examine_database(settings_of(EVERGREEN_DATABASE_URL=password_url)))["connection"] == "ok"
    settings = settings_of(EVERGREEN_DATABASE_URL=password_url.replace("right-one", "a-wrong-one"))
    checks = without_secrets({"database": list(examine_database(settings))}, settings)["database"]
    assert [check.state for check in checks] == ["failed"]
    assert "authentication failed" in checks[0].found
    assert "a-wrong-one" not in str(checks)


@pytest.mark.parametrize(("number", "state"), [(130014, "failed"), (140000, "ok"), (180001, "ok")])
def test_old_servers_are_refused(number: int, state: str) -> None:
    assert _version("somewhere", number).state == state


@pytest.mark.parametrize(("seconds", "state"), [(0.5, "ok"), (-20, "warning"), (61, "failed"), (-400, "failed")])
def test_clocks_that_differ_are_told(seconds: float, state: str) -> None:
    found: Check = clock("clock", seconds, most=60, whose="the database")
    assert found.state == state
