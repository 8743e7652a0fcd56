"""Brings every acknowledged prediction into the lake's predictions table, exactly once."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa

from evergreen.errors import ConfigurationError, DataError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.config import ServingConfig
from evergreen.serving.journal import Journal, Segment
from evergreen.serving.repeater import Repeater

logger = logging.getLogger(__name__)
MANY_SEGMENTS = 16
"""Sealed segments from which on, the lake being down, the open one is left to grow to its full size."""
OWN_COLUMNS = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("key", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("known_at", pa.timestamp("us", "UTC")),
        ("version", pa.string()),
        ("score", pa.float32()),
        ("decision", pa.string()),
    ]
)


def predictions_schema(pipeline: Pipeline) -> pa.Schema:
    """Columns of the predictions zone: the log's own, then the served features."""
    numeric = [pa.field(name, pa.float64()) for name in pipeline.features.numeric]
    categorical = [pa.field(name, pa.string()) for name in pipeline.features.categorical]
    return pa.schema([*OWN_COLUMNS, *numeric, *categorical])


class PredictionLog:
    """The prediction log of one pipeline: `append` journals, a thread of its own flushes to the lake."""

    def __init__(self, pipeline: Pipeline, lake: Lake, folder: Path, config: ServingConfig) -> None:
        self._table = lake.table("predictions", pipeline.pipeline)
        self._name = pipeline.pipeline
        self._config = config
        self._lock = threading.Lock()
        self._schema = predictions_schema(pipeline)
        self._journal = Journal(folder / pipeline.pipeline, self._schema)
        self._segment_rows = 0
        self.backlog_rows = sum(_height(segment) for segment in self._journal.sealed())
        self._repeater = Repeater(f"prediction log of {self._name}", self.flush, config.flush_seconds)

    def start(self) -> None:
        """Starts flushing, what an earlier process left in the journal first."""
        if self.backlog_rows:
            logger.warning(
                "%s: %d predictions of an earlier process wait in the journal", self._name, self.backlog_rows
            )
        self._repeater.start()

    @property
    def error(self) -> str | None:
        """Why the last flush failed; None when it went well."""
        return self._repeater.error

    def append(self, rows: pl.DataFrame) -> None:
        """Returns when `rows` (columns of `predictions_schema`) will reach the lake; LakeUnavailable otherwise."""
        table = rows.select(self._schema.names).to_arrow()
        with self._lock:
            self._journal.append(table)
            self.backlog_rows += table.num_rows
            self._segment_rows += table.num_rows
            full = self._segment_rows >= self._config.flush_rows
            if full:
                self._seal()
        if full:
            self._repeater.wake()

    def stop(self) -> None:
        """Returns after a last flush; what the lake does not take stays in the journal for the next start."""
        self._repeater.stop()
        self._repeater.attempt()
        if self.backlog_rows:
            logger.warning("%s: %d predictions stay in the journal until the next start", self._name, self.backlog_rows)

    def flush(self) -> None:
        """Returns when every row appended before the call is in the lake.

        Raises what the lake raised; the journal then still has all rows that are not there yet.
        """
        with self._lock:
            if len(self._journal.sealed()) < MANY_SEGMENTS:
                self._seal()
        self._commit_sealed()
        with self._lock:
            self._seal()
        self._commit_sealed()

    def _seal(self) -> None:
        self._journal.seal()
        self._segment_rows = 0

    def _commit_sealed(self) -> None:
        with self._lock:
            segments = self._journal.sealed()
        refusal: ConfigurationError | DataError | None = None
        for segment in segments:
            try:
                self._commit(segment)
            except (ConfigurationError, DataError) as error:  # this segment's own fault: the others may go in
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    def _commit(self, segment: Segment) -> None:
        """Appends a segment, a day at a time. Doing it again makes the same files, so it changes nothing."""
        table = segment.read()
        rows = table.num_rows if table is not None else 0
        if table is not None and rows:
            for day, part in by_event_day(table):
                self._table.append_day(day, part)
        segment.remove()
        with self._lock:
            self.backlog_rows -= rows


def by_event_day(table: pa.Table) -> list[tuple[date, pa.Table]]:
    """The rows of each UTC day of event_time, in the order they have."""
    days = pl.Series(table["event_time"]).dt.date()
    present = days.unique().sort().to_list()
    return [(day, table.filter(pa.array((days == day).to_arrow()))) for day in present]


def lock_journal(folder: Path) -> int:
    """A lock on the journal that ends with the process; ConfigurationError when another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigurationError(
            f"Journal {folder}",
            found="another serving process that writes it",
            wanted="one serving process a journal",
            remedy="End the other one, or give this one its own EVERGREEN_HOME.",
        ) from error
    return handle


def _height(segment: Segment) -> int:
    table = segment.read()
    return table.num_rows if table is not None else 0
