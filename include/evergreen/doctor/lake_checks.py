"""The lake: objects, commits that cannot overwrite each other, and a clock the server agrees with."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import CommitProperties

from evergreen.doctor.check import Check, failed, not_applicable, ok, refused
from evergreen.doctor.machine_checks import clock, disk
from evergreen.errors import EvergreenError
from evergreen.lake.lake import Lake
from evergreen.lake.objects import LocalObjects
from evergreen.settings import Settings

SCRATCH = "_doctor"
ROWS = pa.table({"n": [1]})
WRITERS = 4
QUICK = {"AWS_MAX_ATTEMPTS": "1", "AWS_CONNECT_TIMEOUT_SECONDS": "3", "AWS_TIMEOUT_SECONDS": "6"}
"""A doctor asks once: a server that needs three tries is no healthy one."""
MOST_SKEW_SECONDS = 900.0  # S3 refuses requests signed further off, RequestTimeTooSkewed
REMEDY = "Check EVERGREEN_LAKE_URL, the AWS_* variables and what that account may do in the bucket (docs/lake.md)."


def examine_lake(settings: Settings) -> Iterator[Check]:
    """Writes, reads, commits and cleans up in a folder of its own below `_doctor/`."""
    lake = Lake(settings.lake_url, {**settings.lake_options, **QUICK} if settings.lake_options else {})
    yield _clock(settings)
    try:
        objects = lake.objects
    except EvergreenError as error:
        yield refused("URL", error)
        return
    if isinstance(objects, LocalObjects):
        yield disk("disk", objects.root, "EVERGREEN_LAKE_URL")
    with _scratch(lake) as folder:
        found = _objects(lake, folder)
        yield found
        if found.state == "ok":
            yield _commits(lake, folder)


@contextmanager
def _scratch(lake: Lake) -> Iterator[str]:
    """A folder of the lake that is gone afterwards, if the lake lets it go."""
    folder = f"{SCRATCH}/{uuid.uuid4().hex}"
    try:
        yield folder
    finally:
        if isinstance(lake.objects, LocalObjects):
            shutil.rmtree(lake.objects.root / folder, ignore_errors=True)
        else:
            _remove_all(lake, folder)


def _remove_all(lake: Lake, folder: str) -> None:
    try:
        for path in lake.objects.list(folder):
            lake.objects.delete(path)
    except EvergreenError:  # the checks above have said already what is wrong with this lake
        return


def _objects(lake: Lake, folder: str) -> Check:
    name, path, started = "write, read, delete", f"{folder}/object", time.monotonic()
    try:
        lake.objects.put(path, b"evergreen")
        read = lake.objects.get(path)
        lake.objects.delete(path)
        left = lake.objects.exists(path)
    except EvergreenError as error:
        return refused(name, error)
    if read != b"evergreen" or left:
        return failed(name, "other bytes than were written" if read != b"evergreen" else "a deleted object", REMEDY)
    return ok(name, f"an object in {lake.url}, {(time.monotonic() - started) * 1000:.0f} ms")


def _commits(lake: Lake, folder: str) -> Check:
    """Several writers commit the same version of a table at once: one may win, and none may be lost unseen."""
    name, url = "commits", f"{lake.url.rstrip('/')}/{folder}/table"
    options = lake.table("raw", "doctor").storage_options or None
    try:
        write_deltalake(url, ROWS, storage_options=options)
        tables = [DeltaTable(url, storage_options=options) for _ in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            acknowledged = sum(pool.map(_commit, tables))
        kept = DeltaTable(url, storage_options=options).to_pyarrow_table().num_rows - 1
    except (DeltaError, OSError) as error:
        return failed(name, (str(error).splitlines() or [type(error).__name__])[0][:300], REMEDY)
    if kept != acknowledged or not acknowledged:
        remedy = "Use a store that honours conditional writes (If-None-Match): on this one, commits get lost."
        return failed(name, f"{kept} of {acknowledged} acknowledged commits were kept", remedy)
    return ok(name, f"Delta: {WRITERS} writers at once, {acknowledged} committed, the others were refused")


def _commit(table: DeltaTable) -> bool:
    try:
        write_deltalake(table, ROWS, mode="append", commit_properties=CommitProperties(max_commit_retries=0))
    except CommitFailedError:
        return False
    return True


def _clock(settings: Settings) -> Check:
    """This clock against the `Date` of the S3 server's answer, whatever it answers."""
    name = "clock"
    if not settings.lake_url.startswith("s3://"):
        return not_applicable(name, f"a {urlsplit(settings.lake_url).scheme} lake goes by this machine's clock")
    options = settings.lake_options
    region = options.get("AWS_REGION") or options.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = options.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    try:
        answer = httpx.head(endpoint, timeout=5, verify=options.get("AWS_CA_BUNDLE") or True)
        served = parsedate_to_datetime(answer.headers["date"])
    except httpx.HTTPError as error:
        return failed(
            name, f"no answer from {endpoint}: {error}", "See whether the S3 server runs; check AWS_ENDPOINT_URL."
        )
    except (KeyError, ValueError):
        return not_applicable(name, f"{endpoint} does not say what time it is")
    return clock(name, (datetime.now(UTC) - served).total_seconds(), most=MOST_SKEW_SECONDS, whose=endpoint)
