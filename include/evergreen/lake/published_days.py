"""Which files hold each day of a table, as one small object that needs no Delta: what the service reads history by."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from datetime import date
from functools import lru_cache

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.lake.objects import require_digest


class PublishedDay(BaseModel):
    """A day of a table, and its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: date
    digest: str
    """TableDay's."""
    files: tuple[tuple[str, str], ...]
    """Path below the lake's root, and SHA-256, of each."""


class PublishedDays(BaseModel):
    """A table at one of its versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    days: tuple[PublishedDay, ...]


def days_path(zone: str, pipeline: str) -> str:
    """Path of the object below the lake's root."""
    return f"published/{zone}/{pipeline}.json"


def publish_days(lake: Lake, zone: str, pipeline: str) -> PublishedDays | None:
    """What readers without Delta see from now on; None of a table never written.

    Of two that publish at once, whoever put the older state sees that the table went on, and puts again.
    """
    table = lake.table(zone, pipeline)
    published = None
    while (now := table.listed()) is not None and now != published:
        lake.objects.put(days_path(zone, pipeline), now.model_dump_json().encode())
        published = now
    return published


def published_days(lake: Lake, zone: str, pipeline: str) -> tuple[PublishedDay, ...]:
    """The days last published, in order, none before the first; IntegrityError when the object is something else."""
    path = days_path(zone, pipeline)
    if not lake.objects.exists(path):
        return ()
    try:
        return _parsed(lake.objects.get(path))
    except ValidationError as error:
        raise IntegrityError(
            f"Object {path}",
            found=f"something else ({error.error_count()} errors)",
            wanted="the days of the table as JSON",
            remedy=f"Run {pipeline}.ingest_data or {pipeline}.deploy_model, which publish it again.",
        ) from error


@lru_cache(maxsize=8)
def _parsed(data: bytes) -> tuple[PublishedDay, ...]:
    """Serving asks every few seconds, mostly for what it had: three years of days take 16 ms to parse."""
    return PublishedDays.model_validate_json(data).days


def read_published_day(lake: Lake, day: PublishedDay, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The day's rows with `columns` in their order; IntegrityError when bytes were altered.

    A column the day does not have yet is null.
    """
    return pl.concat([_read(lake, path, digest, columns) for path, digest in day.files])


def parquet_rows(data: bytes, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The rows of a Parquet file with `columns` in their order, null where the file lacks one."""
    rows = pl.scan_parquet(io.BytesIO(data))
    there = rows.collect_schema().names()
    return rows.select(
        pl.col(name).cast(kind) if name in there else pl.lit(None, kind).alias(name) for name, kind in columns.items()
    ).collect()


def _read(lake: Lake, path: str, digest: str, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    data = lake.objects.get(path)
    require_digest(path, found=hashlib.sha256(data).hexdigest(), wanted=digest)
    return parquet_rows(data, columns)
