"""Hands every acknowledged prediction over to the lake, from where it comes into the predictions table exactly once."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import cast

import polars as pl

from evergreen.errors import ConfigurationError
from evergreen.lake.arrivals import hand_over
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.config import ServingConfig
from evergreen.serving.journal import Journal, Segment
from evergreen.serving.repeater import Repeater
from evergreen.validation.casts import TYPES

logger = logging.getLogger(__name__)
MANY_SEGMENTS = 16
"""Sealed segments from which on, the lake being down, the open one is left to grow to its full size."""
TIME = TYPES["timestamp"]
OWN_COLUMNS: Mapping[str, pl.DataType] = {
    "prediction_id": pl.String(),
    "key": pl.String(),
    "event_time": TIME,
    "known_at": TIME,
    "version": pl.String(),
    "score": pl.Float32(),
    "decision": pl.String(),
}


def predictions_schema(pipeline: Pipeline) -> pl.Schema:
    """Columns of the predictions zone: the log's own, then the served features."""
    numeric = dict.fromkeys(pipeline.features.numeric, pl.Float64())
    categorical = dict.fromkeys(pipeline.features.categorical, pl.String())
    return pl.Schema({**OWN_COLUMNS, **numeric, **categorical})


class PredictionLog:
    """The prediction log of one pipeline: `append` journals, a thread of its own flushes to the lake."""

    def __init__(self, pipeline: Pipeline, lake: Lake, folder: Path, config: ServingConfig) -> None:
        self._lake = lake
        self._name = pipeline.pipeline
        self._config = config
        self._lock = threading.Lock()
        self._schema = predictions_schema(pipeline)
        self._journal = Journal(folder / pipeline.pipeline)
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
        """Returns when `rows` (columns of `predictions_schema`) will reach the lake; LakeUnavailable otherwise.

        A feature that the model learned as another kind, or not at all, is null in the log.
        """
        there = {name for name, dtype in self._schema.items() if name in OWN_COLUMNS or rows.schema.get(name) == dtype}
        columns = [name if name in there else pl.lit(None).alias(name) for name in self._schema]
        logged = rows.select(columns).cast(self._schema)
        with self._lock:
            self._journal.append(logged)
            self.backlog_rows += logged.height
            self._segment_rows += logged.height
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
        for segment in segments:
            self._commit(segment)

    def _commit(self, segment: Segment) -> None:
        """Hands a segment over, a day at a time. Doing it again makes the same files, so it changes nothing."""
        frame = segment.read()
        if frame is not None:
            for (day,), part in frame.group_by(pl.col("event_time").dt.date(), maintain_order=True):
                hand_over(self._lake, "predictions", self._name, cast(date, day), part)
        segment.remove()
        with self._lock:
            self.backlog_rows -= frame.height if frame is not None else 0


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
    rows = segment.read()
    return rows.height if rows is not None else 0
