"""Versions of a row that the source has overwritten since: a day that is read again keeps them from the lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from evergreen.lake.objects import unavailable

ROWS_AT_ONCE = 100_000
"""Rows of the lake that are compared at once: memory is theirs, however large the day."""


def with_overwritten(now: pa.RecordBatchReader, before: ds.Dataset, key: str) -> pa.RecordBatchReader:
    """A day's rows as the source has them `now`, then those of `before`, as the lake has it, that it has overwritten.

    Those are versions that the source has no more, of a key that it has with a later known_at. A key that is gone takes
    all its versions with it: so rows are erased. The same rows give the same batches. Raises LakeUnavailable when the
    disk is full.
    """
    try:
        known = before.replace_schema(now.schema)
    except pa.ArrowTypeError:  # a column changed its type, which the table itself refuses, by name
        return now

    def batches() -> Iterator[pa.RecordBatch]:
        with TemporaryDirectory(prefix="evergreen-") as folder:
            noted = Path(folder) / "versions.parquet"
            yield from _noting(now, noted, [key, "known_at"])
            for found in _of_equal_size(_overwritten(some, noted, key) for some in _of_equal_size(_rows(known))):
                table = found.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).cast(known.schema)
                yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(now.schema, batches())


def _noting(batches: pa.RecordBatchReader, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The very batches, whose `columns` lie at `path` in the end."""
    with pq.ParquetWriter(path, pa.schema([batches.schema.field(name) for name in columns])) as writer:
        for batch in batches:
            with _disk_errors(path):
                writer.write_batch(batch.select(columns))
            yield batch
        with _disk_errors(path):
            writer.close()


def _rows(known: ds.Dataset) -> Iterator[pl.DataFrame]:
    """The rows, a row group at a time: a scanner reads on while they are looked at, up to the whole day."""
    for file in known.get_fragments():
        for group in file.split_by_row_group():
            yield pl.DataFrame(group.to_table(schema=known.schema))


def _overwritten(rows: pl.DataFrame, noted: Path, key: str) -> pl.DataFrame:
    """Those of the rows that are none of their key's versions and older than the latest."""
    versions = (pl.DataFrame(batch) for batch in pq.ParquetFile(noted, pre_buffer=False).iter_batches(ROWS_AT_ONCE))
    there = pl.concat(some.join(rows, on=key, how="semi") for some in versions)
    latest = there.group_by(key).agg(latest=pl.col("known_at").max())
    gone = rows.join(there, on=[key, "known_at"], how="anti", maintain_order="left")
    older = gone.join(latest, on=key, maintain_order="left").filter(pl.col("known_at") < pl.col("latest"))
    return older.drop("latest")


def _of_equal_size(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, ROWS_AT_ONCE in each frame but the last."""
    held = pl.DataFrame()
    for frame in frames:
        held = pl.concat([held, frame]) if held.height else frame
        while held.height >= ROWS_AT_ONCE:
            yield held[:ROWS_AT_ONCE]
            held = held[ROWS_AT_ONCE:]
    if held.height:
        yield held


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(f"Noting versions at {path}", error) from error
