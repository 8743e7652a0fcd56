"""What each feature rests on, and so which features say nothing about drift in a given window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from evergreen.features.expressions import names_in
from evergreen.pipeline import Features, duration

EVENT_TIME = "event_time"
CALENDAR = "follows from the time of the event alone, so the choice of days decides it"


def sources(features: Features, name: str) -> frozenset[str]:
    """The contract columns, windows and `event_time` that feature `name` reads, through other expressions."""
    found: set[str] = set()
    waiting, seen = [name], {name}
    while waiting:
        expression = features.expressions.get(current := waiting.pop())
        if expression is None:
            found.add(current)
            continue
        new = names_in(expression) - seen
        seen |= new
        waiting.extend(new)
    return frozenset(found)


def looks_back(features: Features) -> Mapping[str, timedelta]:
    """How far before an event each feature reads: its longest window; zero without any."""
    names = (*features.numeric, *features.categorical)
    return {name: _longest_window(features, sources(features, name)) for name in names}


def calendar_features(features: Features) -> Mapping[str, str]:
    """Features that are functions of `event_time` alone, each with why that is no drift.

    The weekday of one day against three weeks would always cry wolf.
    """
    names = (*features.numeric, *features.categorical)
    return {name: CALENDAR for name in names if sources(features, name) == {EVENT_TIME}}


def unsettled_features(features: Features, *, history_from: datetime, start: datetime) -> Mapping[str, str]:
    """Features whose windows, at `start`, reach back to before `history_from`, each with why.

    A seven-day count over two days of history is small because history is short, which is no drift either.
    """
    return {
        name: f"looks back {span.total_seconds() / 86400:g} days, to before the first day of unbroken history"
        for name, span in looks_back(features).items()
        if span and start - span < history_from
    }


def _longest_window(features: Features, names: frozenset[str]) -> timedelta:
    spans = [duration(features.windows[name].over) for name in names if name in features.windows]
    return max(spans, default=timedelta())
