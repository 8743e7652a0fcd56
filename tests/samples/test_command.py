from __future__ import annotations

from collections.abc import Callable

import polars as pl
from click.testing import CliRunner

from evergreen.samples.__main__ import main


def test_the_command_fills_a_database(url: str, read: Callable[[str], pl.DataFrame]) -> None:
    result = CliRunner().invoke(main, [url, "2026-10-05", "2026-10-06", "--rows-per-day", "500"])
    assert result.exit_code == 0, result.output
    assert read("SELECT DISTINCT event_time::date::text AS day FROM transactions ORDER BY 1")["day"].to_list() == [
        "2026-10-05",
        "2026-10-06",
    ]
    assert [line.split()[0] for line in result.output.splitlines()] == ["2026-10-05", "2026-10-06"]


def test_a_database_that_is_down_ends_in_one_sentence_and_a_retryable_code() -> None:
    result = CliRunner().invoke(main, ["postgresql://me@127.0.0.1:1/x", "2026-10-05", "2026-10-05"])
    assert result.exit_code == 75
    assert len(result.output.splitlines()) == 1
    assert "does not answer" in result.output
