"""Trailing windows over frames: groups rows by key and hands whole columns to the compiled kernels.

An event at t sees the rows of its key with t - over <= event_time < t that were known by t and not yet
superseded. An event with a null in any `by` column sees nothing: count and sum 0, the others null. A null
operand is not there for sum, mean and max, whose counts leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.features.kernels import number_groups, order_by_group, trailing_max, trailing_sums
from evergreen.pipeline import Window, duration

Ints = npt.NDArray[np.int64]
Hashes = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.bool_]]
NEVER = np.iinfo(np.int64).max
ALREADY = np.iinfo(np.int64).min
MICROSECONDS = 1_000_000
SEEDS = (1, 2)
MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing: hashes of a key's columns are told apart by their order."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When each row of history can be seen, in microseconds, and the order in which that begins."""

    event: Ints
    enter: Ints
    superseded: Ints
    by_entry: Ints
    """Rows of history by `enter`."""
    query: Ints
    """Instant of each event whose windows are wanted."""
    by_query: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, history: pl.DataFrame) -> Timeline:
        """The timeline of `history` as the events `rows` will look at it."""
        event, query = _micros(history["event_time"]), _micros(rows["event_time"])
        enter = np.maximum(event + 1, _micros(history["known_at"]))
        superseded = _superseded(history)
        return cls(
            event=event,
            enter=enter,
            superseded=superseded,
            by_entry=np.argsort(enter, kind="stable"),
            query=query,
            by_query=np.argsort(query, kind="stable"),
        )


def compute_windows(rows: pl.DataFrame, history: pl.DataFrame, windows: Mapping[str, Window]) -> pl.DataFrame:
    """One column a window, in the order of `rows`; windows of the same key share their sort."""
    timeline = Timeline.of(rows, history)
    keys = {column for window in windows.values() for column in window.by}
    hashes = {column: _hashes(rows, history, column) for column in keys}
    columns: dict[str, pl.Series] = {}
    for by in dict.fromkeys(window.by for window in windows.values()):
        grouped = Grouped.of(*_numbers([hashes[column] for column in by]), timeline)
        columns |= {name: grouped.aggregate(w, history) for name, w in windows.items() if w.by == by}
    return pl.DataFrame({name: columns[name] for name in windows})


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """History and events in order of one key, then of time."""

    starts: Ints
    order: Ints
    enter: Ints
    event: Ints
    superseded: Ints
    query_starts: Ints
    query_times: Ints
    query_rows: Ints
    num_rows: int

    @classmethod
    def of(cls, numbers: npt.NDArray[np.int32], num_groups: int, timeline: Timeline) -> Grouped:
        """History and events, in that order in `numbers`, each in the group of its number."""
        groups, wanted = numbers[: timeline.event.size], numbers[timeline.event.size :]
        starts, order = order_by_group(groups, timeline.by_entry, num_groups)
        query_starts, query_rows = order_by_group(wanted, timeline.by_query, num_groups)
        return cls(
            starts=starts,
            order=order,
            enter=timeline.enter[order],
            event=timeline.event[order],
            superseded=timeline.superseded[order],
            query_starts=query_starts,
            query_times=timeline.query[query_rows],
            query_rows=query_rows,
            num_rows=timeline.query.size,
        )

    def aggregate(self, window: Window, history: pl.DataFrame) -> pl.Series:
        """The window's value for every event: Int64, or Float64 for mean and seconds_since_last."""
        if window.aggregate == "seconds_since_last":
            last, seen = self._largest(window, self.event, self.superseded)
            times = np.zeros(self.num_rows, np.int64)
            times[self.query_rows] = self.query_times
            return _nullable((times - last) / MICROSECONDS, seen)
        if window.of is None:
            return pl.Series(self._sums(window, self.event, self.superseded)[0])
        operand = self._operand(history[window.of])
        if window.aggregate == "max":
            return _nullable(*self._largest(window, *operand))
        counts, sums = self._sums(window, *operand)
        return pl.Series(sums) if window.aggregate == "sum" else _nullable(sums / np.maximum(counts, 1), counts > 0)

    def _operand(self, column: pl.Series) -> tuple[Ints, Ints]:
        """The column's values in this order, and until when each can be seen: a null never can."""
        values = column.cast(pl.Int64)
        if not values.null_count():
            return values.to_numpy()[self.order], self.superseded
        absent = values.is_null().to_numpy()[self.order]
        return values.fill_null(0).to_numpy()[self.order], np.where(absent, ALREADY, self.superseded)

    def _sums(self, window: Window, values: Ints, superseded: Ints) -> tuple[Ints, Ints]:
        counts, sums = np.zeros(self.num_rows, np.int64), np.zeros(self.num_rows, np.int64)
        trailing_sums(*self._arguments(window, values, superseded), counts, sums)
        return counts, sums

    def _largest(self, window: Window, values: Ints, superseded: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        largest, seen = np.zeros(self.num_rows, np.int64), np.zeros(self.num_rows, np.bool_)
        trailing_max(*self._arguments(window, values, superseded), largest, seen)
        return largest, seen

    def _arguments(self, window: Window, values: Ints, superseded: Ints) -> tuple[Any, ...]:
        over = duration(window.over) // timedelta(microseconds=1)
        history = (self.starts, self.enter, self.event, superseded, values)
        return (*history, self.query_starts, self.query_times, self.query_rows, over)


def _hashes(rows: pl.DataFrame, history: pl.DataFrame, column: str) -> Hashes:
    """Two hashes of every value of `history` and then of `rows`, and whether it is null.

    Two of 64 bits stand for a value: text is hashed once, whatever its length.
    """
    wanted, earlier = rows[column], history[column]
    alike = earlier if earlier.dtype == wanted.dtype else earlier.cast(wanted.dtype)
    values = alike.to_frame().vstack(wanted.to_frame())
    first, second = (values.hash_rows(seed).to_numpy() for seed in SEEDS)
    return first, second, values.to_series().is_null().to_numpy()


def _numbers(columns: Sequence[Hashes]) -> tuple[npt.NDArray[np.int32], int]:
    """Number of every row's group, -1 with a null in its key, and how many groups there are."""
    first, second, absent = columns[0]
    for other_first, other_second, other_absent in columns[1:]:
        first, second = first * MIX + other_first, second * MIX + other_second
        absent = absent | other_absent
    return number_groups(first, second, absent)


def _micros(times: pl.Series) -> Ints:
    return np.ascontiguousarray(times.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy())


def _superseded(history: pl.DataFrame) -> Ints:
    if "superseded_at" not in history.columns:
        return np.full(history.height, NEVER, np.int64)
    ends = history["superseded_at"].cast(pl.Datetime("us", "UTC")).to_physical()
    return np.ascontiguousarray(ends.fill_null(NEVER).to_numpy())


def _nullable(values: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> pl.Series:
    return pl.Series(values).set(pl.Series(~seen), None)
