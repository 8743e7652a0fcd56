"""Gigabytes pass through a process whose memory stays flat, as a day's rows and as an object."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evergreen.lake.lake import Lake

GIGABYTES = int(os.environ.get("EVERGREEN_TEST_LARGE_GB", "5"))
PEAK = """
import os, resource, sys
from datetime import date
from pathlib import Path
import numpy as np, pyarrow as pa
from evergreen.lake.lake import Lake

lake, folder, gigabytes = Lake(sys.argv[1], os.environ), Path(sys.argv[2]), int(sys.argv[3])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
ROWS = """
ROWS = 1 << 20  # of 16 bytes that nothing compresses
day = date(2026, 11, 2)
table = lake.table("raw", "large")
schema = pa.schema({"row": pa.int64(), "noise": pa.int64()})

def batches(megabytes, sums):
    draw = np.random.default_rng(7)
    for n in range(megabytes >> 4):
        noise = draw.integers(1 << 63, size=ROWS)
        row = np.arange(n * ROWS, (n + 1) * ROWS) * 2654435761 ^ noise
        sums += row.sum(), noise.sum()
        yield pa.record_batch([row, noise], schema=schema)

def pass_through(megabytes):
    wrote, read = np.zeros(2, np.int64), np.zeros(2, np.int64)  # sums wrap around
    written = table.replace_day(day, pa.RecordBatchReader.from_batches(schema, batches(megabytes, wrote)))
    assert written.rows == (megabytes >> 4) * ROWS, written
    with table.scan([day]) as rows:
        for batch in rows.to_batches():
            read += [column.to_numpy().sum() for column in batch.columns]
    assert (read == wrote).all(), (read, wrote)

pass_through(512)
before = peak()
pass_through(gigabytes << 10)
print(peak() - before)
"""
OBJECT = """
import hashlib
lake.objects.put("small", b"x" * 100)
lake.objects.get("small")
block = np.random.default_rng(7).bytes(1 << 24)
before = peak()
local = folder / "large"
with local.open("wb") as stream:
    for n in range(gigabytes << 6):
        stream.write(n.to_bytes(8) + block[8:])
ref = lake.objects.put_file("large", local)
assert ref.size_bytes == gigabytes << 30
local.unlink(missing_ok=True)
lake.objects.fetch("large", local)
assert hashlib.file_digest(local.open("rb"), "sha256").hexdigest() == ref.digest
local.unlink()
print(peak() - before)
"""


@pytest.mark.s3
@pytest.mark.parametrize(("what", "gigabytes"), [(ROWS, GIGABYTES), (OBJECT, 1)], ids=["rows", "object"])
def test_gigabytes_pass_with_flat_memory(s3_lake: Lake, tmp_path: Path, what: str, gigabytes: int) -> None:
    words = [sys.executable, "-W", "ignore::ResourceWarning", "-c", PEAK + what]
    try:
        done = subprocess.run(
            [*words, s3_lake.url, str(tmp_path), str(gigabytes)],
            env=os.environ | dict(s3_lake.options) | {"TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        grown_mb = int(done.stdout) / 1024
        assert grown_mb < 160, f"{grown_mb:.0f} MB more while {gigabytes} GB passed"
        assert list(tmp_path.iterdir()) == []
    finally:
        for path in s3_lake.objects.list(""):  # it is too much to keep until the tests' bucket is emptied
            s3_lake.objects.delete(path)
