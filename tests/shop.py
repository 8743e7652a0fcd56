"""Orders of a small shop: a pipeline over them, and fixtures that write clean days and labels into a lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from evergreen.artifacts import TableDay
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

FIRST = date(2026, 11, 1)
ROWS_A_DAY = 60


@pytest.fixture(scope="session")
def shop() -> Pipeline:
    """Orders with two windows and an expression; a label is complete after a day."""
    return Pipeline.model_validate(
        {
            "pipeline": "shop",
            "owner": "o",
            "purpose": "p",
            "source": {"connection": "c", "table": "orders"},
            "contract": {
                "key": "order",
                "event_time": "at",
                "known_at": "seen",
                "columns": {
                    n: {"type": t} for n, t in {"order": "string", "who": "string", "cents": "integer"}.items()
                },
            },
            "label": {"name": "bad", "table": "returns", "key": "order", "known_at": "at", "matures_after_days": 1},
            "features": {
                "windows": {
                    "orders_2d": {"by": ["who"], "over": "2d", "aggregate": "count"},
                    "cents_2d": {"by": ["who"], "over": "2d", "aggregate": "sum", "of": "cents"},
                },
                "expressions": {"amount": "log1p(cents)", "share": "cents / cents_2d"},
                "numeric": ["amount", "share", "orders_2d"],
                "categorical": ["who"],
            },
            "training": {"window_days": 3, "validation_days": 1, "holdout_days": 1},
            "gate": {"minimum": {"average_precision": 0.1}},
            "deployment": {"decisions": {"floors": {"bad": 0.5}}},
        }
    )


def orders(day: date, *, seed: int = 0) -> pl.DataFrame:
    """A clean day of orders, in time order."""
    rng = np.random.default_rng([day.toordinal(), seed])
    seconds = np.sort(rng.integers(0, 86_400, ROWS_A_DAY))
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    times = [start + timedelta(seconds=int(s)) for s in seconds]
    moment = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "order": [f"{day}-{n}" for n in range(ROWS_A_DAY)],
            "who": [f"w{n}" for n in rng.integers(0, 7, ROWS_A_DAY)],
            "cents": rng.integers(1, 10_000, ROWS_A_DAY),
            "event_time": pl.Series(times, dtype=moment),
            "known_at": pl.Series([t + timedelta(seconds=2) for t in times], dtype=moment),
            "superseded_at": pl.Series([None] * ROWS_A_DAY, dtype=moment),
        }
    )


@pytest.fixture
def write_clean(lake: Lake) -> Callable[..., TableDay]:
    """Writes a day of orders (or `rows`) into the clean zone."""

    def write(day: date, rows: pl.DataFrame | None = None) -> TableDay:
        frame = orders(day) if rows is None else rows
        return lake.table("clean", "shop").replace_day(day, frame.to_arrow())

    return write


@pytest.fixture
def write_labels(lake: Lake) -> Callable[..., TableDay]:
    """Writes labels that were reported on a day: (key, value, hour)."""

    def write(day: date, labels: list[tuple[str, int, int]]) -> TableDay:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        known = pl.Series([start + timedelta(hours=h) for _, _, h in labels], dtype=pl.Datetime("us", "UTC"))
        frame = pl.DataFrame(
            {
                "key": pl.Series([k for k, _, _ in labels], dtype=pl.String),
                "value": pl.Series([v for _, v, _ in labels], dtype=pl.Int8),
            }
        ).with_columns(event_time=known, known_at=known)
        return lake.table("labels", "shop").replace_day(day, frame.to_arrow())

    return write
