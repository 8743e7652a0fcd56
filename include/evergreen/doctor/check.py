"""What one look at one thing gave: a sentence of what was found, and how to mend it where it does not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evergreen.errors import EvergreenError

State = Literal["ok", "warning", "failed", "not applicable"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    remedy: str = ""
    """What to do about it; empty when nothing needs doing."""


def ok(name: str, found: str) -> Check:
    """It works."""
    return Check(name=name, state="ok", found=found)


def warning(name: str, found: str, remedy: str) -> Check:
    """It works, or may, but somebody should look."""
    return Check(name=name, state="warning", found=found, remedy=remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    """It does not work."""
    return Check(name=name, state="failed", found=found, remedy=remedy)


def not_applicable(name: str, why: str) -> Check:
    """There is nothing to look at here, and that is fine."""
    return Check(name=name, state="not applicable", found=why)


def refused(name: str, error: EvergreenError) -> Check:
    """It does not work, for the reason of one of Evergreen's own errors."""
    return failed(name, f"{error.thing}: {error.found}; wanted {error.wanted}", error.remedy)
