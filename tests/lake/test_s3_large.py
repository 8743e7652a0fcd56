"""Gigabytes pass through a process whose memory stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evergreen.lake.lake import Lake

GIGABYTES = int(os.environ.get("EVERGREEN_TEST_LARGE_GB", "1"))
PASS = """
import hashlib, os, resource, sys
from datetime import date
from pathlib import Path
import numpy as np, pyarrow as pa
from evergreen.lake.lake import Lake

url, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
objects = Lake(url, options).objects
objects.put("small", b"x" * 100)
objects.get("small")
block = np.random.default_rng(7).bytes(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if size:
    local = folder / "large"
    with local.open("wb") as stream:
        for n in range(size * 64):
            stream.write(n.to_bytes(8) + block[8:])
    ref = objects.put_file("large", local)
    assert ref.size_bytes == size << 30
    local.unlink(missing_ok=True)
    objects.fetch("large", local)
    assert hashlib.file_digest(local.open("rb"), "sha256").hexdigest() == ref.digest
    local.unlink()
    objects.delete("large")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.s3
def test_gigabytes_pass_with_flat_memory(s3_lake: Lake, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", PASS, s3_lake.url, str(tmp_path), str(GIGABYTES)],
        env=os.environ | dict(s3_lake.options),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown_mb = int(done.stdout) / 1024
    assert grown_mb < 160, f"{grown_mb:.0f} MB more while {GIGABYTES} GB passed"
    assert s3_lake.objects.list("") == ["small"]
