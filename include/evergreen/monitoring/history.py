"""Which days of history lead up to a day without a gap."""

from __future__ import annotations

from collections.abc import Set
from datetime import date, timedelta


def unbroken_from(written: Set[date], day: date) -> date:
    """The first of the days that lead up to `day` without a gap: windows that reach further back lack rows."""
    while day - timedelta(days=1) in written:
        day -= timedelta(days=1)
    return day
