"""Which raw rows of a day were judged last, so that rows whose validation never came to its end are found again.

validated/<pipeline>/<day>.json    digest of the raw day that was judged, whatever the verdict
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta

from evergreen.artifacts import TableDay
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline


def note_judged(raw: TableDay, lake: Lake) -> None:
    """Nothing; from now on these rows of the day count as judged."""
    lake.objects.put(_path(raw), _note(raw))


def unjudged_days(pipeline: Pipeline, day: date, lake: Lake) -> Iterator[TableDay]:
    """Raw days of the late window before `day` that were judged once, but not with the rows that are there now.

    The window counts days that raw has: one without events is none of them. A day that never was judged is left to the
    run that reads it first, which may be under way beside this one, or is red.
    """
    before = lake.table("raw", pipeline.pipeline).days(last=day - timedelta(days=1))
    return (raw for raw in before[::-1][: pipeline.source.late_days] if _grew(raw, lake))


def _grew(raw: TableDay, lake: Lake) -> bool:
    return lake.objects.exists(_path(raw)) and lake.objects.get(_path(raw)) != _note(raw)


def _note(raw: TableDay) -> bytes:
    return json.dumps({"raw": raw.digest}).encode()


def _path(raw: TableDay) -> str:
    return f"validated/{raw.pipeline}/{raw.day.isoformat()}.json"
