"""`evergreen history` shows every reason as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evergreen.cli import main
from evergreen.ledger.ledger import Ledger


@pytest.mark.parametrize("reason", ["scores [nan, nan] for rows", "see [/incident-42]", "worse since 12:100:30"])
def test_reason_is_no_markup(
    ledger: Ledger,
    judged: Callable[..., Any],
    database: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", database.url)
    ledger.deploy(judged("one").register(ledger), actor="[ann]", reason=reason)
    result = CliRunner().invoke(main, ["history", "fraud"], catch_exceptions=False)
    assert reason in result.output
    assert "[ann]" in result.output
