"""`evergreen audit verify` says what it found, and what it could not look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from evergreen.cli import main
from evergreen.lake.lake import Lake
from evergreen.ledger.anchor import ANCHOR, write_anchor
from evergreen.ledger.ledger import Ledger


@pytest.fixture
def verify(database: Any, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Result]:
    """Runs `evergreen audit verify` on the test's ledger and lake."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", database.url)
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    return lambda: CliRunner().invoke(main, ["audit", "verify"])


def test_whole_ledger_with_its_anchor_is_whole(
    ledger: Ledger, judged: Callable[..., Any], lake: Lake, verify: Callable[[], Result]
) -> None:
    judged("one").register(ledger)
    write_anchor(ledger, lake)
    result = verify()
    assert (result.exit_code, result.output) == (0, "The ledger is whole.\n")


def test_empty_ledger_needs_no_anchor_yet(ledger: Ledger, verify: Callable[[], Result]) -> None:
    result = verify()
    assert (result.exit_code, result.output) == (0, "The ledger is empty, and has no anchor yet.\n")


def test_absent_anchor_is_said_and_is_no_success(
    ledger: Ledger, judged: Callable[..., Any], lake: Lake, verify: Callable[[], Result]
) -> None:
    judged("one").register(ledger)
    write_anchor(ledger, lake)
    lake.objects.delete(ANCHOR)
    result = verify()
    assert result.exit_code == 1
    assert "The ledger is whole" not in result.output
    assert f"{lake.url} has no ledger/anchor.json" in result.output
    assert "EVERGREEN_LAKE_URL" in result.output


def test_edited_row_is_named_beside_an_absent_anchor(
    ledger: Ledger, judged: Callable[..., Any], database: Any, verify: Callable[[], Result]
) -> None:
    judged("one").register(ledger)
    database.tamper("UPDATE evergreen.model_versions SET version = 'two'")
    result = verify()
    assert result.exit_code == 1
    assert "model_versions row 1: edited" in result.output
    assert "has no ledger/anchor.json" in result.output
