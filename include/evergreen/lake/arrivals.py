"""Rows from processes without Delta: Parquet files put where a table has its own, and a note of each until it is one.

    predictions/<pipeline>/day=<day>/<digest>.parquet                          the rows
    arrivals/predictions/<pipeline>/day=<day>/<digest>.<rows>.<size>.<schema>  the note, an empty object

The service writes a file, then its note: two puts, and no conflict however many replicas write. `take_in` makes the
noted files part of the Delta table by one commit, then removes the notes. Either side may be killed anywhere and do
its part again: a file is named by the digest of its bytes, so it is in the table once.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Self

import polars as pl

from evergreen.errors import ConfigurationError
from evergreen.lake.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
PARALLEL_REMOVALS = 8


@dataclass(frozen=True, kw_only=True, order=True)
class Arrival:
    """A file that waits to become part of its table."""

    schema: str
    """Short digest of its columns and their types: files with the same one have the same."""
    day: date
    digest: str
    rows: int
    size_bytes: int

    @property
    def file(self) -> str:
        """Path of the file below its table."""
        return f"day={self.day.isoformat()}/{self.digest}.parquet"

    @property
    def note(self) -> str:
        """Path of the note below the table's arrivals."""
        return f"day={self.day.isoformat()}/{self.digest}.{self.rows}.{self.size_bytes}.{self.schema}"

    @classmethod
    def of_note(cls, path: str) -> Self:
        """The arrival whose note lies at `path`."""
        day, name = path.split("/")[-2:]
        digest, rows, size_bytes, schema = name.split(".")
        parsed = date.fromisoformat(day.removeprefix("day="))
        return cls(schema=schema, day=parsed, digest=digest, rows=int(rows), size_bytes=int(size_bytes))


def hand_over(lake: Lake, zone: str, pipeline: str, day: date, rows: pl.DataFrame) -> Arrival:
    """The arrival of `rows` of one day; the very same rows again are the same arrival.

    Raises LakeUnavailable, and then a file without a note may lie there, which is no part of anything.
    """
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd")
    data = buffer.getvalue()
    arrival = Arrival(
        schema=hashlib.sha256(repr(rows.schema).encode()).hexdigest()[:8],
        day=day,
        digest=hashlib.sha256(data).hexdigest(),
        rows=rows.height,
        size_bytes=len(data),
    )
    lake.objects.put(f"{zone}/{pipeline}/{arrival.file}", data)
    lake.objects.put(f"{_notes(zone, pipeline)}/{arrival.note}", b"")
    return arrival


def take_in(lake: Lake, zone: str, pipeline: str) -> int:
    """Rows that became part of the table: all that were handed over, but those whose columns changed type.

    Those stay where they are, and the log says how they differ.
    """
    arrivals = sorted(Arrival.of_note(path) for path in lake.objects.list(_notes(zone, pipeline)))
    taken = 0
    for _, group in groupby(arrivals, key=lambda arrival: arrival.schema):
        alike = list(group)
        try:
            _adopt(lake, zone, pipeline, alike)
        except ConfigurationError as error:
            logger.error("%d files wait beside %s/%s: %s", len(alike), zone, pipeline, error)
            continue
        taken += sum(arrival.rows for arrival in alike)
    return taken


def _adopt(lake: Lake, zone: str, pipeline: str, arrivals: Sequence[Arrival]) -> None:
    """Returns when files with the same columns are part of the table and their notes are gone."""
    from evergreen.lake.tables import DataFile

    files = [DataFile(path=a.file, day=a.day, rows=a.rows, size_bytes=a.size_bytes) for a in arrivals]
    lake.table(zone, pipeline).append_files(files, _schema(lake, f"{zone}/{pipeline}/{arrivals[0].file}"))
    with ThreadPoolExecutor(PARALLEL_REMOVALS) as pool:
        list(pool.map(lambda arrival: lake.objects.delete(f"{_notes(zone, pipeline)}/{arrival.note}"), arrivals))


def _schema(lake: Lake, path: str) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.read_schema(pa.BufferReader(lake.objects.get(path)))
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in found])


def _notes(zone: str, pipeline: str) -> str:
    return f"arrivals/{zone}/{pipeline}"
