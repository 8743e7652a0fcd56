"""What the doctor found, as a table for people and as JSON for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from evergreen.doctor.check import Check

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "not applicable": "dim"}
Checks = dict[str, list[Check]]


def healthy(checks: Checks) -> bool:
    """Whether nothing failed; a warning is no illness."""
    return not any(check.state == "failed" for found in checks.values() for check in found)


def as_json(checks: Checks) -> dict[str, Any]:
    """`{"healthy": ..., "checks": [{"part", "name", "state", "found", "remedy"}]}`."""
    listed = [{"part": part, **asdict(check)} for part, found in checks.items() for check in found]
    return {"healthy": healthy(checks), "checks": listed}


def as_table(checks: Checks) -> Table:
    """One row a check; what to do stands below what was found."""
    table = Table("part", "check", "state", "found, and what to do")
    for part, found in checks.items():
        for number, check in enumerate(found):
            last = number == len(found) - 1
            table.add_row("" if number else part, Text(check.name), _state(check), _words(check), end_section=last)
    return table


def summary(checks: Checks) -> str:
    """One line: how many of each state."""
    states = [check.state for found in checks.values() for check in found]
    return ", ".join(f"{states.count(state)} {state}" for state in COLOURS if state in states)


def _state(check: Check) -> Text:
    return Text(check.state, style=COLOURS[check.state])


def _words(check: Check) -> Text:
    remedy = ("\n", ("->", "bold"), f" {check.remedy}") if check.remedy else ()
    return Text.assemble(check.found, *remedy)
