"""Trailing windows over frames: groups rows by key and hands whole columns to the compiled kernels.

An event at t sees the rows of its key with t - over <= event_time < t that were known by t and not yet
superseded. An event with a null in any `by` column sees nothing: count and sum 0, the others null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from evergreen.features.kernels import order_by_group, trailing_max, trailing_sums
from evergreen.pipeline import Window, duration

Ints = npt.NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
MICROSECONDS = 1_000_000


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
    columns: dict[str, pl.Series] = {}
    for by in dict.fromkeys(window.by for window in windows.values()):
        grouped = Grouped.of(rows, history, by, timeline)
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
    def of(cls, rows: pl.DataFrame, history: pl.DataFrame, by: tuple[str, ...], timeline: Timeline) -> Grouped:
        """Both frames grouped by the columns `by`."""
        groups, wanted, num_groups = _groups(rows, history, by)
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
            num_rows=rows.height,
        )

    def aggregate(self, window: Window, history: pl.DataFrame) -> pl.Series:
        """The window's value for every event: Int64, or Float64 for mean and seconds_since_last."""
        if window.aggregate == "seconds_since_last":
            last, seen = self._largest(self.event, window)
            times = np.zeros(self.num_rows, np.int64)
            times[self.query_rows] = self.query_times
            return _nullable((times - last) / MICROSECONDS, seen)
        if window.aggregate == "max":
            return _nullable(*self._largest(self._values(window, history), window))
        counts, sums = self._sums(self._values(window, history), window)
        if window.aggregate == "mean":
            return _nullable(sums / np.maximum(counts, 1), counts > 0)
        return pl.Series(counts if window.aggregate == "count" else sums)

    def _values(self, window: Window, history: pl.DataFrame) -> Ints:
        if window.of is None:
            return np.zeros(self.order.size, np.int64)
        return history[window.of].fill_null(0).to_numpy().astype(np.int64)[self.order]

    def _sums(self, values: Ints, window: Window) -> tuple[Ints, Ints]:
        counts, sums = np.zeros(self.num_rows, np.int64), np.zeros(self.num_rows, np.int64)
        trailing_sums(*self._arguments(values, window), counts, sums)
        return counts, sums

    def _largest(self, values: Ints, window: Window) -> tuple[Ints, npt.NDArray[np.bool_]]:
        largest, seen = np.zeros(self.num_rows, np.int64), np.zeros(self.num_rows, np.bool_)
        trailing_max(*self._arguments(values, window), largest, seen)
        return largest, seen

    def _arguments(self, values: Ints, window: Window) -> tuple[Any, ...]:
        over = int(duration(window.over).total_seconds() * MICROSECONDS)
        history = (self.starts, self.enter, self.event, self.superseded, values)
        return (*history, self.query_starts, self.query_times, self.query_rows, over)


def _groups(
    rows: pl.DataFrame, history: pl.DataFrame, by: tuple[str, ...]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Group number of every row of history and of every event, -1 for a null key; and how many there are."""
    keys = pl.concat([history.select(by), rows.select(by)])
    absent = keys.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    numbers = np.zeros(keys.height, np.int64)
    for column in by:
        # Numbered column by column, so that a composite key never becomes text. Hashing beats sorting: the
        # service asks for a hundred rows at a time.
        codes = _numbered(keys[column].to_arrow())
        numbers = _numbered(pa.array(numbers * (codes.max(initial=0) + 1) + codes))
    groups = np.where(absent, -1, numbers).astype(np.int32)
    return groups[: history.height], groups[history.height :].copy(), int(numbers.max(initial=-1)) + 1


def _numbered(values: pa.Array) -> Ints:
    """A number from 0 for every distinct value, in order of appearance; 0 for null too."""
    indices = values.dictionary_encode().indices.fill_null(0)
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def _micros(times: pl.Series) -> Ints:
    return np.ascontiguousarray(times.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy())


def _superseded(history: pl.DataFrame) -> Ints:
    if "superseded_at" not in history.columns:
        return np.full(history.height, NEVER, np.int64)
    ends = history["superseded_at"].cast(pl.Datetime("us", "UTC")).to_physical()
    return np.ascontiguousarray(ends.fill_null(NEVER).to_numpy())


def _nullable(values: npt.NDArray[np.generic], seen: npt.NDArray[np.bool_]) -> pl.Series:
    return pl.select(pl.when(pl.Series(seen)).then(pl.Series(values))).to_series()
