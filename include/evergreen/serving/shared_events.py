"""Events that replicas of one pipeline served, told to one another and to those that start later, through the lake.

    events/<pipeline>/<replica>.<segment>.<rows>.<last day>.parquet

A replica's latest segment is put again whenever it grew, under a name with its new number of rows, and the one it
replaces is removed; so there are few objects, each is whole, and readers see by the names what is new. A segment
goes once the clean zone has its last day. Events that were not told yet when a process is killed are missing in the
windows of the others until their day is ingested; predictions are not affected (see prediction_log).
"""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import polars as pl

from evergreen.errors import NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import parquet_rows

SEGMENT_ROWS = 50_000
"""From so many rows on a new segment begins: what is put again at each exchange stays about a megabyte."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One object, as its name tells."""

    replica: str
    number: int
    rows: int
    last_day: date

    @property
    def key(self) -> tuple[str, int]:
        """What stays when it grows."""
        return self.replica, self.number

    @property
    def name(self) -> str:
        return f"{self.replica}.{self.number}.{self.rows}.{self.last_day.isoformat()}.parquet"

    @classmethod
    def named(cls, name: str) -> Self:
        replica, number, rows, last_day, _ = name.split(".")
        return cls(replica=replica, number=int(number), rows=int(rows), last_day=date.fromisoformat(last_day))


class SharedEvents:
    """One replica's part in the exchange; `offer` may be called from another thread than `exchange`."""

    def __init__(self, lake: Lake, pipeline: str, columns: Mapping[str, pl.DataType]) -> None:
        self._lake = lake
        self._folder = f"events/{pipeline}"
        self._columns = columns
        self._replica = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._offered: list[pl.DataFrame] = []
        self._latest = pl.DataFrame(schema=columns)
        self._number = 0
        self._put: Segment | None = None
        self._taken: dict[tuple[str, int], int] = {}

    def offer(self, rows: pl.DataFrame) -> None:
        """The next exchange tells the others of `rows`."""
        with self._lock:
            self._offered.append(rows)

    def exchange(self, clean_until: date | None) -> list[pl.DataFrame]:
        """Rows of other replicas that are news, after they were told of ours; `clean_until`: the last clean day.

        Raises what the lake raises; nothing is lost by that, the next exchange does it.
        """
        self._give()
        listed = [Segment.named(path.rpartition("/")[2]) for path in self._lake.objects.list(self._folder)]
        gone = {segment for segment in listed if clean_until is not None and segment.last_day <= clean_until}
        for segment in gone:
            self._remove(segment)
        others = [s for s in listed if s not in gone and s.replica != self._replica]
        grown = [segment for segment in others if segment.rows > self._taken.get(segment.key, 0)]
        read = [(segment, rows) for segment in grown if (rows := self._read(segment)) is not None]
        known = {segment.key: self._taken.get(segment.key, 0) for segment in others}
        self._taken = known | {segment.key: segment.rows for segment, _ in read}  # only now that all could be read
        return [rows[known[segment.key] :] for segment, rows in read]

    def _give(self) -> None:
        with self._lock:
            offered, self._offered = self._offered, []
        if offered:
            self._latest = pl.concat([self._latest, pl.concat(offered, rechunk=True)])
        while self._latest.height > (self._put.rows if self._put else 0):
            self._give_segment()

    def _give_segment(self) -> None:
        """Puts the segment that grew; the rows of a full one need not be kept."""
        replaced, self._put = self._put, self._put_segment(self._latest[:SEGMENT_ROWS])
        if self._put.rows >= SEGMENT_ROWS:
            self._latest, self._number, self._put = self._latest[SEGMENT_ROWS:], self._number + 1, None
        if replaced is not None:
            self._remove(replaced)

    def _put_segment(self, rows: pl.DataFrame) -> Segment:
        newest: datetime = rows["event_time"].max()  # type: ignore[assignment]
        segment = Segment(replica=self._replica, number=self._number, rows=rows.height, last_day=newest.date())
        buffer = io.BytesIO()
        rows.rechunk().write_parquet(buffer, compression="zstd")
        self._lake.objects.put(f"{self._folder}/{segment.name}", buffer.getvalue())
        return segment

    def _read(self, segment: Segment) -> pl.DataFrame | None:
        try:
            data = self._lake.objects.get(f"{self._folder}/{segment.name}")
        except NotFound:  # replaced since it was listed; the next look finds the longer one
            return None
        return parquet_rows(data, self._columns)

    def _remove(self, segment: Segment) -> None:
        self._lake.objects.delete(f"{self._folder}/{segment.name}")
