"""Rows from processes without Delta: Parquet files put where a table has its own, and a note of each until it is one.

    predictions/<pipeline>/day=<day>/<digest>.parquet                          the rows
    arrivals/predictions/<pipeline>/day=<day>/<digest>.<rows>.<size>.<schema>  the note, an empty object
    arrivals/merged/predictions/<pipeline>/day=<day>/<digest of a file>        digests of what was merged into it

The service writes a file, then its note: two puts, and no conflict however many replicas write. `take_in` merges the
noted files of a day into one, makes that part of the Delta table, then removes the small files, then their notes.
Either side may be killed anywhere and do its part again: a small file is named by the digest of its bytes, and a
merged file has its list before it becomes part of the table, in a commit that fails if any other came since the
lists were read. So rows are in the table once, and no reader of it ever met a small file.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Self

import polars as pl

from evergreen.errors import ConfigurationError, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.objects import require_digest

if TYPE_CHECKING:
    import pyarrow as pa

    from evergreen.lake.tables import DataFile, DayTable

logger = logging.getLogger(__name__)
PARALLEL_REQUESTS = 8
ROW_GROUP_BYTES = 4 << 20
"""Small files of so many bytes are held at once and become one row group."""


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
    lake.objects.put(f"{_notes(f'{zone}/{pipeline}')}/{arrival.note}", b"")
    return arrival


def take_in(lake: Lake, zone: str, pipeline: str) -> int:
    """Rows that became part of the table: all that were handed over, but those whose columns changed type.

    Those stay where they are, and the log says how they differ. Several may take in at once. Raises NotFound
    when the file of a note is gone, IntegrityError when it was altered.
    """
    missing = None
    while True:
        try:
            return _take_in(lake.table(zone, pipeline))
        except NotFound as error:
            if error.thing == missing:
                raise
            missing = error.thing  # once is another taker's doing: it removes a file when the table has its rows


def _take_in(table: DayTable) -> int:
    arrivals = sorted(Arrival.of_note(path) for path in table.objects.list(_notes(table.path)))
    known = _known(table, table.files(), arrivals)
    waiting = [arrival for arrival in arrivals if arrival.digest not in known]
    refused: set[Arrival] = set()
    for _, group in groupby(waiting, key=lambda arrival: arrival.schema):
        alike = list(group)
        try:
            _append(table, alike)
        except ConfigurationError as error:
            logger.error("%d files wait beside %s: %s", len(alike), table.path, error)
            refused.update(alike)
    _remove(table, [arrival for arrival in arrivals if arrival not in refused])
    return sum(arrival.rows for arrival in waiting if arrival not in refused)


def _known(table: DayTable, files: Iterable[DataFile], arrivals: Sequence[Arrival]) -> set[str]:
    """Digests of all that a table of `files` has of the days of `arrivals`: its files and what they were merged of."""
    days = {arrival.day for arrival in arrivals}
    there = {file.digest for file in files if file.day in days}
    lists = [path for day in sorted(days) for path in table.objects.list(f"{_merged(table.path)}/day={day}")]
    return there.union(*(table.objects.get(p).decode().split() for p in lists if p.rpartition("/")[2] in there))


def _append(table: DayTable, arrivals: Sequence[Arrival]) -> None:
    """Returns when the table has the rows of `arrivals`, whose columns are the same, in one more file a day."""
    schema = _schema(table, arrivals[0])
    merge = cache(partial(_merge, table, schema))

    def choose(files: Sequence[DataFile]) -> list[DataFile]:
        known = _known(table, files, arrivals)
        news = (arrival for arrival in arrivals if arrival.digest not in known)
        return [merge(tuple(group)) for _, group in groupby(news, key=lambda arrival: arrival.day)]

    table.append_files(choose, schema)


def _merge(table: DayTable, schema: pa.Schema, arrivals: Sequence[Arrival]) -> DataFile:
    """One file of the rows of `arrivals`, all of one day and in their order, with the list of what it was merged of."""
    import pyarrow as pa

    day = arrivals[0].day
    file = table.stage(day, pa.RecordBatchReader.from_batches(schema, _batches(table, schema, arrivals)))
    digests = "\n".join(arrival.digest for arrival in arrivals)
    table.objects.put(f"{_merged(table.path)}/day={day}/{file.digest}", digests.encode())
    return file


def _batches(table: DayTable, schema: pa.Schema, arrivals: Iterable[Arrival]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for group in _row_groups(arrivals):
            rows = pa.concat_tables(pool.map(partial(_rows, table, schema), group))
            yield from rows.combine_chunks().to_batches()


def _row_groups(arrivals: Iterable[Arrival]) -> Iterator[list[Arrival]]:
    group: list[Arrival] = []
    size_bytes = 0
    for arrival in arrivals:
        group.append(arrival)
        size_bytes += arrival.size_bytes
        if size_bytes >= ROW_GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _rows(table: DayTable, schema: pa.Schema, arrival: Arrival) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = f"{table.path}/{arrival.file}"
    data = table.objects.get(path)
    require_digest(path, found=hashlib.sha256(data).hexdigest(), wanted=arrival.digest)
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).cast(schema)


def _schema(table: DayTable, arrival: Arrival) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.read_schema(pa.BufferReader(table.objects.get(f"{table.path}/{arrival.file}")))
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in found])


def _remove(table: DayTable, arrivals: Sequence[Arrival]) -> None:
    """Returns when files and notes of `arrivals`, whose rows the table has, are gone; a file that is its own stays.

    Notes go last: a file without one would never be found again.
    """
    own = {file.path for file in table.files()}
    files = [f"{table.path}/{arrival.file}" for arrival in arrivals if arrival.file not in own]
    notes = [f"{_notes(table.path)}/{arrival.note}" for arrival in arrivals]
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for paths in (files, notes):
            list(pool.map(table.objects.delete, paths))


def _notes(table_path: str) -> str:
    return f"arrivals/{table_path}"


def _merged(table_path: str) -> str:
    return f"arrivals/merged/{table_path}"
