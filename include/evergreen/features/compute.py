"""Features of many events at once, from the events and the history they may look back on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import polars as pl

from evergreen.features.definitions import Definitions, definition_digest, resolve
from evergreen.features.expressions import to_polars
from evergreen.features.windows import compute_windows
from evergreen.pipeline import Pipeline

TIMES = ("event_time", "known_at", "superseded_at")


def compute_features(pipeline: Pipeline, rows: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
    """Key, times and features of `rows`, in their order; numeric ones Float64, categorical ones String.

    `rows` are clean events. `history` holds earlier clean events with event_time and known_at, and may
    hold `rows` themselves: an event sees only what happened before it and was known by then.
    """
    definitions = _definitions(_Spec(definition_digest(pipeline), pipeline))
    frame = rows
    if definitions.windows:
        frame = frame.hstack(compute_windows(rows, history, definitions.windows))
    for layer in definitions.layers:
        frame = frame.with_columns(**{name: to_polars(node) for name, node in layer.items()})
    times = [name for name in TIMES if name in rows.columns]
    key = [] if definitions.key in (*definitions.numeric, *definitions.categorical) else [definitions.key]
    return frame.select(
        *(pl.col(name).cast(pl.String) for name in key),
        *times,
        *_numeric(definitions.numeric),
        *(pl.col(name).cast(pl.String) for name in definitions.categorical),
    )


def _numeric(names: Sequence[str]) -> list[pl.Expr]:
    """The columns as numbers; what is not finite is missing."""
    numbers = [pl.col(name).cast(pl.Float64) for name in names]
    return [pl.when(number.is_finite()).then(number).alias(n) for n, number in zip(names, numbers, strict=True)]


@dataclass(frozen=True)
class _Spec:
    """A pipeline that equals every other with the same definitions."""

    digest: str
    pipeline: Pipeline = field(compare=False)


@lru_cache(maxsize=64)
def _definitions(spec: _Spec) -> Definitions:
    """The resolved definitions: parsing them took a third of the time of a single event."""
    return resolve(spec.pipeline)
