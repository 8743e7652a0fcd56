"""One Delta table partitioned by UTC day, in which a day is replaced whole, in one commit.

Files are named by the digest of their own bytes, so a day that is written again with the same rows
is found unchanged and makes no commit, and a reader can tell altered bytes from recorded ones.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.schema import Field
from deltalake.transaction import AddAction, CommitProperties
from pyarrow import fs

from evergreen.artifacts import TableDay
from evergreen.errors import ConfigurationError, Conflict, NotFound
from evergreen.lake.delta_errors import delta_errors
from evergreen.lake.objects import Objects, file_digest, require_digest, unavailable
from evergreen.lake.published_days import PublishedDay, PublishedDays

COMMIT_TRIES = 25
CHECKPOINT_EVERY_COMMITS = 20
DAY = pa.field("day", pa.date32())
Batches: TypeAlias = pa.Table | pa.RecordBatchReader
STREAMED = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False))
"""Read row group by row group: what Arrow buffers ahead it keeps until the whole file was read."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One Parquet file of the table."""

    path: str
    """Below the table's root: `day=<day>/<digest>.parquet`."""
    day: date
    rows: int
    size_bytes: int

    @property
    def digest(self) -> str:
        return Path(self.path).stem


Choice: TypeAlias = Callable[[Sequence[DataFile]], Sequence[DataFile]]
"""Files to commit, by those that the table has."""


@dataclass(frozen=True, kw_only=True)
class DayTable:
    """A Delta table of one zone of one pipeline; see the module's docstring."""

    zone: str
    pipeline: str
    objects: Objects
    url: str
    """Root of the table."""
    storage_options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> str:
        """Folder of the table below the lake's root."""
        return f"{self.zone}/{self.pipeline}"

    def replace_day(self, day: date, rows: Batches) -> TableDay:
        """The day after it holds exactly `rows` (no `day` column), in one commit or none if it already did.

        Memory is one batch. Raises LakeUnavailable (nothing written) or Conflict (others kept winning).
        """
        return self._write(day, rows, keep_others=False)

    def append_day(self, day: date, rows: Batches) -> TableDay:
        """The day after `rows` joined it; appending the very same rows again changes nothing."""
        return self._write(day, rows, keep_others=True)

    def exists(self) -> bool:
        """Whether any day was ever written."""
        return self._open() is not None

    def day(self, day: date) -> TableDay | None:
        """The day as it is now; None when it was never written."""
        found = self.days(day, day)
        return found[0] if found else None

    def days(self, first: date = date.min, last: date = date.max) -> list[TableDay]:
        """All written days from `first` to `last` inclusive, in order."""
        table = self._open()
        if table is None:
            return []
        files = [f for f in _files(table) if first <= f.day <= last]
        days = sorted({f.day for f in files})
        return [self._table_day(d, [f for f in files if f.day == d], table.version()) for d in days]

    def files(self) -> list[DataFile]:
        """The Parquet files it consists of now."""
        table = self._open()
        return _files(table) if table is not None else []

    def listed(self) -> PublishedDays | None:
        """All written days with their files, of one version; None when none was ever written."""
        table = self._open()
        if table is None:
            return None
        files = sorted(_files(table), key=lambda f: (f.day, f.path))
        days = {day: list(group) for day, group in groupby(files, key=lambda f: f.day)}
        return PublishedDays(
            version=table.version(),
            days=tuple(
                PublishedDay(
                    day=day,
                    digest=self._table_day(day, group, table.version()).digest,
                    files=tuple((f"{self.path}/{f.path}", f.digest) for f in group),
                )
                for day, group in days.items()
            ),
        )

    def read(
        self, days: Sequence[date], columns: Sequence[str] | None = None, keep: pc.Expression | None = None
    ) -> pa.Table:
        """The rows of `days`, in memory: those to `keep`, with `columns` or all but `day`. Raises as `scan` does."""
        with self.scan(days) as rows:
            return rows.to_table(columns=columns and list(columns), filter=keep)

    @contextmanager
    def scan(self, days: Sequence[date]) -> Iterator[ds.Dataset]:
        """The rows of `days`, to be read within the block; every byte is checked against its digest.

        They have all the table's columns but `day`. Raises NotFound when one of the days was never written,
        IntegrityError when one was altered.
        """
        table = self._open()
        files = [f for f in _files(table) if f.day in set(days)] if table is not None else []
        missing = sorted(set(days) - {f.day for f in files})
        if table is None or missing:
            raise self._never_written(missing)
        digests = {file.path: file.digest for file in sorted(files, key=lambda f: (f.day, f.path))}
        with self.objects.verified_files(self.path, digests) as folder:
            # Never a file system in Python: Arrow's threads would wait for the interpreter, and it for them.
            files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
            yield ds.dataset(list(digests), schema=self._schema(table), format=STREAMED, filesystem=files)

    def verify(self, recorded: TableDay) -> None:
        """Nothing, when the day is as `recorded` to the byte; IntegrityError or NotFound otherwise."""
        table = self._open()
        files = [f for f in _files(table) if f.day == recorded.day] if table is not None else []
        if table is None or not files:
            raise self._never_written([recorded.day])
        now = self._table_day(recorded.day, files, table.version())
        require_digest(f"{self.path} of {recorded.day}", found=now.digest, wanted=recorded.digest)
        for file in files:
            path = f"{self.path}/{file.path}"
            require_digest(path, found=self.objects.digest(path), wanted=file.digest)

    def _write(self, day: date, rows: Batches, *, keep_others: bool) -> TableDay:
        file = self.stage(day, rows)
        table = self._commit(lambda _: [file], rows.schema, keep_others=keep_others)
        return self._table_day(day, [f for f in _files(table) if f.day == day], table.version())

    def stage(self, day: date, rows: Batches) -> DataFile:
        """The file of `rows` (no `day` column), which lies in the table's folder now and is no part of it yet."""
        with TemporaryDirectory(prefix="evergreen-") as folder:
            local = Path(folder) / "rows.parquet"
            count = _write_parquet(local, rows, thing=f"Staging {self.path} of {day}")
            name = f"day={day.isoformat()}/{file_digest(local)}.parquet"
            file = DataFile(path=name, day=day, rows=count, size_bytes=local.stat().st_size)
            self.objects.put_file(f"{self.path}/{name}", local)
            return file

    def append_files(self, choose: Choice, schema: pa.Schema) -> None:
        """Returns when the staged files that `choose` names are part of the table, by one commit, or none for no files.

        It chooses by the table's files, and anew whenever another commit came in between. Raises
        ConfigurationError, before it is asked, when a column of `schema` has another type here.
        """
        self._commit(choose, schema, keep_others=True)

    def _commit(self, choose: Choice, schema: pa.Schema, *, keep_others: bool) -> DeltaTable:
        for attempt in range(COMMIT_TRIES):
            try:
                return self._commit_once(choose, schema, keep_others=keep_others)
            except CommitFailedError:
                time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
        raise Conflict(
            f"Table {self.path}",
            found=f"{COMMIT_TRIES} commits by other writers in a row",
            wanted="one commit of our own",
            remedy="Run the task again when fewer runs write this table.",
        )

    def _commit_once(self, choose: Choice, schema: pa.Schema, *, keep_others: bool) -> DeltaTable:
        """The table with the chosen files in it; CommitFailedError when another writer came first, at making it too."""
        table = self._open_or_create(schema)
        there = _files(table)
        files = choose(there)
        days = {f.day for f in files}
        before = {f.path for f in there if f.day in days}
        news = [f for f in files if f.path not in before]
        if not news and (keep_others or before == {f.path for f in files}):
            return table
        self._transact(table, news if keep_others else files, keep_others=keep_others)
        return self._require_open()

    def _transact(self, table: DeltaTable, files: Sequence[DataFile], *, keep_others: bool) -> None:
        days = sorted({f.day.isoformat() for f in files})
        with self._delta_errors(f"Committing {self.path} of {', '.join(days)}"):
            table.create_write_transaction(
                [_addition(file) for file in files],
                mode="append" if keep_others else "overwrite",
                schema=table.schema(),
                partition_by=["day"],
                partition_filters=None if keep_others else [("day", "in", days)],
                commit_properties=CommitProperties(max_commit_retries=0),
            )
            if (table.version() + 1) % CHECKPOINT_EVERY_COMMITS == 0:
                self._require_open().create_checkpoint()

    def _open(self) -> DeltaTable | None:
        try:
            with self._delta_errors(f"Opening {self.path}"):
                return DeltaTable(self.url, storage_options=self.storage_options or None)
        except TableNotFoundError:
            return None

    def _require_open(self) -> DeltaTable:
        table = self._open()
        if table is None:
            raise self._never_written([])
        return table

    def _open_or_create(self, schema: pa.Schema) -> DeltaTable:
        table = self._open()
        if table is None:
            with self._delta_errors(f"Creating {self.path}"):
                table = DeltaTable.create(
                    self.url,
                    schema=schema.append(DAY),
                    partition_by=["day"],
                    mode="ignore",
                    storage_options=self.storage_options or None,
                )
        return self._with_columns(table, schema)

    def _with_columns(self, table: DeltaTable, schema: pa.Schema) -> DeltaTable:
        """The table after it gained the columns of `schema` it lacked; a changed type is refused."""
        known = {f.name: f for f in table.schema().fields}
        wanted = {f.name: f for f in _delta_fields(schema)}
        for name in wanted.keys() & known.keys():
            if wanted[name].type != known[name].type:
                raise ConfigurationError(
                    f"Column {name} of {self.path}",
                    found=f"type {wanted[name].type}",
                    wanted=f"type {known[name].type}, as earlier days have it",
                    remedy="Keep the column's type, or give the new one another name.",
                )
        new = [wanted[name] for name in wanted if name not in known]
        if new:
            with self._delta_errors(f"Adding columns to {self.path}"):
                table.alter.add_columns(new)
            return self._require_open()
        return table

    def _schema(self, table: DeltaTable) -> pa.Schema:
        schema = pa.schema(table.schema())
        return pa.schema([f for f in schema if f.name != DAY.name])

    def _table_day(self, day: date, files: Iterable[DataFile], version: int) -> TableDay:
        files = list(files)
        joined = "".join(sorted(f.digest for f in files))
        return TableDay(
            zone=self.zone,
            pipeline=self.pipeline,
            day=day,
            rows=sum(f.rows for f in files),
            digest=hashlib.sha256(joined.encode()).hexdigest(),
            version=version,
        )

    def _never_written(self, days: list[date]) -> NotFound:
        listed = ", ".join(d.isoformat() for d in days[:5]) or "any day"
        return NotFound(
            f"Table {self.path}",
            found=f"no data for {listed}" + (" and more" if len(days) > 5 else ""),
            wanted="every day that is asked for",
            remedy=f"Run or backfill {self.pipeline}.ingest_data for them.",
        )

    def _delta_errors(self, thing: str) -> AbstractContextManager[None]:
        return delta_errors(thing, self.url, self.storage_options)


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last` inclusive."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _write_parquet(path: Path, rows: Batches, *, thing: str) -> int:
    """Rows written to `path`, batch by batch; the same rows give the same bytes.

    An OSError of the disk is the lake's own error; one raised by `rows` is its source's, and stays as it is.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
    count = 0
    with ExitStack() as stack:
        with _disk_errors(thing):
            writer = stack.enter_context(pq.ParquetWriter(path, reader.schema, compression="zstd"))
        for batch in reader:
            with _disk_errors(thing):
                writer.write_batch(batch)
            count += batch.num_rows
        with _disk_errors(thing):
            writer.close()
    return count


@contextmanager
def _disk_errors(thing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(thing, error) from error


def _addition(file: DataFile) -> AddAction:
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values={"day": file.day.isoformat()},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )


def _delta_fields(schema: pa.Schema) -> list[Field]:
    return list(Schema.from_arrow(schema).fields)


def _files(table: DeltaTable) -> list[DataFile]:
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = (actions["path"], actions["partition.day"], actions["num_records"], actions["size_bytes"])
    return [
        DataFile(path=path, day=day, rows=rows, size_bytes=size_bytes)
        for path, day, rows, size_bytes in zip(*(c.to_pylist() for c in columns), strict=True)
    ]
