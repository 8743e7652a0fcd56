"""Which days the demo's story happens on. Fixed at its first start, so that a later start continues it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from evergreen.errors import ConfigurationError

HISTORY_DAYS = 30
ORDINARY_DAYS = 3
SHIFTED_DAYS = 12


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """History, then ordinary days under watch, then days on which customers and fraudsters behave otherwise."""

    last: date
    rows_per_day: int

    @property
    def first(self) -> date:
        return self.last - timedelta(days=HISTORY_DAYS + ORDINARY_DAYS + SHIFTED_DAYS - 1)

    @property
    def history_end(self) -> date:
        return self.first + timedelta(days=HISTORY_DAYS - 1)

    @property
    def ordinary(self) -> tuple[date, date]:
        return self.history_end + timedelta(days=1), self.history_end + timedelta(days=ORDINARY_DAYS)

    @property
    def shifted(self) -> tuple[date, date]:
        return self.last - timedelta(days=SHIFTED_DAYS - 1), self.last


def remembered_calendar(path: Path, *, yesterday: date, rows_per_day: int) -> Calendar:
    """The calendar noted at `path`, or a new one ending `yesterday`, which is noted there.

    Raises ConfigurationError when a story of another size was begun before.
    """
    if not path.exists():
        path.write_text(json.dumps({"last": yesterday.isoformat(), "rows_per_day": rows_per_day}))
    noted = json.loads(path.read_text())
    if noted["rows_per_day"] != rows_per_day:
        raise ConfigurationError(
            "The demo",
            found=f"one begun with {noted['rows_per_day']} rows a day",
            wanted=f"{rows_per_day} rows a day",
            remedy=f"Use the first number, or `make clean` to start afresh ({path.parent} is removed).",
        )
    return Calendar(last=date.fromisoformat(noted["last"]), rows_per_day=rows_per_day)
