"""Recent events of one pipeline in memory, from which the windows of a new event are computed.

    clean      the lake's published clean days, as far back as the longest window, indexed by key
    served     events that replicas have served and that are in no clean day yet, indexed by key
    tail       the latest of those, not indexed yet

A background thread calls `refresh`, which also tells the other replicas what this one served and asks what they did;
one other thread calls `related` and `add`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Self

import numpy as np
import polars as pl

from evergreen.features.definitions import resolve
from evergreen.lake.lake import Lake, end_of
from evergreen.lake.published_days import PublishedDay, published_days, read_published_day
from evergreen.pipeline import Pipeline, duration
from evergreen.serving.key_index import Hashes, Positions, SortedHashes, find_unsorted, key_hashes, narrowest
from evergreen.serving.shared_events import SharedEvents
from evergreen.validation.casts import TYPES

logger = logging.getLogger(__name__)
TIMES = ("event_time", "known_at", "superseded_at")
MOST_CHUNKS = 64
"""Requests whose rows lie apart in memory before the tail is copied into one piece."""
Key = tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """Which events a pipeline's windows look at, and what of them."""

    keys: list[Key]
    """Events that share one of these are related."""
    columns: frozenset[str]
    longest: timedelta

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self:
        windows = list(resolve(pipeline).windows.values())
        return cls(
            keys=narrowest([window.by for window in windows]),
            columns=frozenset({*(c for w in windows for c in w.by), *(w.of for w in windows if w.of)}),
            longest=max((duration(window.over) for window in windows), default=timedelta(0)),
        )

    def cover(self, other: Needs) -> bool:
        """Whether a history kept for these is enough for the windows of `other` too."""
        known = all(any(set(mine) <= set(key) for mine in self.keys) for key in other.keys)
        return known and other.columns <= self.columns and other.longest <= self.longest


@dataclass(frozen=True)
class Indexed:
    """Rows with an index for each key."""

    rows: pl.DataFrame
    indexes: Mapping[Key, SortedHashes]

    @classmethod
    def of(cls, rows: pl.DataFrame, keys: list[Key]) -> Self:
        return cls(rows, {key: SortedHashes.of(key_hashes(rows, key)) for key in keys})

    def find(self, wanted: Mapping[Key, Hashes]) -> pl.DataFrame:
        return self.rows[_joined([self.indexes[key].find(hashes) for key, hashes in wanted.items()])]


@dataclass(frozen=True)
class Tail:
    """Rows whose hashes are at hand, in the order they came."""

    rows: pl.DataFrame
    hashes: Mapping[Key, Hashes]

    @classmethod
    def of(cls, rows: pl.DataFrame, keys: list[Key]) -> Self:
        return cls(rows, {key: key_hashes(rows, key) for key in keys})

    def find(self, wanted: Mapping[Key, Hashes]) -> pl.DataFrame:
        return self.rows[_joined([find_unsorted(self.hashes[key], hashes) for key, hashes in wanted.items()])]

    def plus(self, other: Tail) -> Tail:
        rows = self.rows.vstack(other.rows)
        if rows.n_chunks() > MOST_CHUNKS:
            rows = rows.rechunk()
        return Tail(rows, {key: np.concatenate([mine, other.hashes[key]]) for key, mine in self.hashes.items()})

    def after(self, count: int) -> Tail:
        return Tail(self.rows[count:], {key: mine[count:] for key, mine in self.hashes.items()})


class History:
    """See the module's docstring."""

    def __init__(self, pipeline: Pipeline, lake: Lake, *, tail_rows: int) -> None:
        contract, needs = pipeline.contract, Needs.of(pipeline)
        self._name = pipeline.pipeline
        self._lake = lake
        self._event_key: Key = (contract.key,)
        self._window_keys, self._longest = needs.keys, needs.longest
        self._tail_rows = tail_rows
        used = needs.columns | {contract.key}
        kept = {name: TYPES[spec.type] for name, spec in contract.columns.items() if name in used}
        self._types = kept | dict.fromkeys(TIMES, TYPES["timestamp"])
        self._columns = list(self._types)
        self._keys = [*dict.fromkeys([*self._window_keys, self._event_key])]
        self._days: dict[date, tuple[PublishedDay, pl.DataFrame]] = {}
        self._shared = SharedEvents(lake, pipeline.pipeline, self._types)
        self._lock = threading.Lock()
        self._adding = threading.Lock()
        self._clean: Indexed | None = None
        self._served: Indexed | None = None
        self._tail: Tail | None = None
        self.loaded = False
        """Whether the clean zone was read once; before that, windows would come out too small."""

    @property
    def num_rows(self) -> int:
        """Rows held now."""
        return sum(part.rows.height for part in self._parts())

    def related(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All held rows that share a window's key with one of `rows`, once each, and `rows` themselves.

        Only the columns that windows need. Rows of no use may be among them; order means nothing.
        """
        # an event without a value of the key has no window there
        wanted = {key: np.unique(key_hashes(rows.drop_nulls(list(key)), key)) for key in self._window_keys}
        news = rows.select(self._columns)
        found = [part.find(wanted) for part in self._parts()] if wanted else []
        if not found:
            return news
        known = pl.concat(found)
        mine = known[self._event_key[0]].is_in(news[self._event_key[0]].implode())
        return pl.concat([known.filter(~mine) if mine.any() else known, news])

    def add(self, rows: pl.DataFrame) -> None:
        """Remembers events that were served, here and soon in other replicas; one known already changes nothing."""
        if self._window_keys:
            with self._adding:
                self._shared.offer(self._remember(rows))

    def _remember(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that were news."""
        key = self._event_key
        wanted = {key: np.unique(key_hashes(rows, key))}
        known = [part.find(wanted).select(key) for part in self._parts()]
        news = rows.select(self._columns).unique(subset=list(key), keep="first", maintain_order=True)
        if known:
            news = news.join(pl.concat(known), on=list(key), how="anti", maintain_order="left")
        if news.height:
            new = Tail.of(news, self._keys)
            with self._lock:
                self._tail = new if self._tail is None else self._tail.plus(new)
        return news

    def _parts(self) -> list[Indexed | Tail]:
        """What is held at this moment."""
        with self._lock:
            parts = (self._clean, self._served, self._tail)
        return [part for part in parts if part is not None]

    def refresh(self) -> None:
        """Takes in clean days that changed and what other replicas served; gives the tail an index when it grew long.

        Raises what the lake raises, and then keeps what it had; the tail gets its index whatever the lake says.
        """
        changed = False
        try:
            if self._window_keys:
                self._exchange()
            changed = self._read_changed_days()
        finally:
            tail = self._tail
            if changed or (tail is not None and tail.rows.height > self._tail_rows):
                self._reindex(tail, clean_changed=changed)
        if changed or not self.loaded:
            logger.info("%s: history of %d clean days, %d rows", self._name, len(self._days), self.num_rows)
        self.loaded = True

    def _exchange(self) -> None:
        for rows in self._shared.exchange(max(self._days, default=None)):
            with self._adding:
                self._remember(rows)

    def _read_changed_days(self) -> bool:
        """Whether the clean days of the longest window are others than before."""
        written = published_days(self._lake, "clean", self._name)
        newest = written[-1].day if written else None
        recent = [d for d in written if newest is not None and end_of(d.day) > end_of(newest) - self._longest]
        if [d.digest for d in recent] == [d.digest for d, _ in self._days.values()]:
            return False
        days: dict[date, tuple[PublishedDay, pl.DataFrame]] = {}
        for day in recent:
            before = self._days.get(day.day)
            days[day.day] = before if before and before[0].digest == day.digest else (day, self._read(day))
        self._days = days
        return True

    def _read(self, day: PublishedDay) -> pl.DataFrame:
        return read_published_day(self._lake, day, self._types)

    def _reindex(self, tail: Tail | None, *, clean_changed: bool) -> None:
        """Builds the new indexes aside, then takes them in at once, with the rows served meanwhile."""
        clean = self._clean
        if clean_changed:
            frames = [frame for _, frame in self._days.values()]
            clean = Indexed.of(pl.concat(frames, rechunk=True), self._keys) if frames else None
        served = self._served_rows(clean, tail)
        indexed = Indexed.of(served, self._keys) if served is not None and served.height else None
        with self._lock:
            self._clean, self._served = clean, indexed
            if tail is not None and self._tail is not None:
                rest = self._tail.after(tail.rows.height)
                self._tail = rest if rest.rows.height else None

    def _served_rows(self, clean: Indexed | None, tail: Tail | None) -> pl.DataFrame | None:
        """Served rows that are in no clean day and that the longest window can still reach."""
        parts = [part.rows for part in (self._served, tail) if part is not None]
        if not parts:
            return None
        rows = pl.concat(parts, rechunk=True)
        if clean is not None:
            rows = rows.join(clean.rows.select(self._event_key), on=list(self._event_key), how="anti")
        horizon = self._horizon(rows)
        return rows if horizon is None else rows.filter(pl.col("event_time") >= horizon)

    def _horizon(self, rows: pl.DataFrame) -> datetime | None:
        """The earliest event time of use: a longest window before the newest served event.

        A single event far ahead of the others must not make the process forget, so the newest is
        the 99th percentile, or the end of the clean days if that is later.
        """
        newest = rows["event_time"].quantile(0.99, "lower") if rows.height else None
        ends = [end_of(day) for day in self._days]
        if isinstance(newest, datetime):
            ends.append(newest)
        return max(ends) - self._longest if ends else None


def _joined(positions: list[Positions]) -> Positions:
    return positions[0] if len(positions) == 1 else np.unique(np.concatenate(positions))
