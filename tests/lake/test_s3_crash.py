"""A server killed in the middle of commits, and writers in processes of their own: no commit is lost or halved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from minio import Minio

from evergreen.errors import LakeUnavailable
from evergreen.lake.lake import Lake
from real_parts import LEASES, STATE, S3Server, start_s3

DAY = date(2026, 11, 1)
PORT = 9300
PATIENT = {"AWS_TIMEOUT_SECONDS": "120", "AWS_CONNECT_TIMEOUT_SECONDS": "120", "AWS_MAX_ATTEMPTS": "2"}
"""A killed server refuses at once; one started again first waits for the leases of the killed one to run out."""
pytestmark = pytest.mark.s3


class OwnServer:
    """A server that a test may kill: its folder, and the keys to it."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self.tools, self.folder = tools, folder
        self.keys = self.start()

    def start(self) -> S3Server:
        return start_s3(self.tools, self.folder, PORT, CEPH_ARGS=LEASES)

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        for file in (self.folder / "run").glob("*.pid"):
            os.kill(int(file.read_text()), signal.SIGKILL)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def own_server(tools: Path) -> Iterator[OwnServer]:
    """A server of this module's own; its bucket `crash` exists."""
    server = OwnServer(tools, STATE / "s3-crash")
    keys = server.keys.options["AWS_ACCESS_KEY_ID"], server.keys.options["AWS_SECRET_ACCESS_KEY"]
    client = Minio(server.keys.endpoint.removeprefix("http://"), *keys, secure=False)
    if not client.bucket_exists("crash"):
        client.make_bucket("crash")
    yield server
    subprocess.run([str(tools / "s3-down"), str(server.folder)], check=False, capture_output=True)


WRITER = """
import os, sys
from datetime import date
import pyarrow as pa
from evergreen.errors import LakeUnavailable
from evergreen.lake.lake import Lake

url, verb, numbers = sys.argv[1], sys.argv[2], [int(n) for n in sys.argv[3:]]
options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
table = Lake(url, options).table("raw", "fraud")
for number in numbers:
    try:
        if verb == "append":
            table.append_day(date(2026, 11, 1), pa.table({"value": [number]}))
        else:
            table.replace_day(date(2026, 11, number), pa.table({"value": [number]}))
        print(number, flush=True)
    except LakeUnavailable as error:
        print("unavailable", number, error, flush=True)
        sys.exit(error.exit_code)
"""


def _writer(lake: Lake, verb: str, numbers: range) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, lake.url, verb, *map(str, numbers)],
        env=variables | dict(lake.options),
        stdout=subprocess.PIPE,
        text=True,
    )


def _values(lake: Lake, *days: date) -> list[int]:
    return sorted(lake.table("raw", "fraud").read(days)["value"].to_pylist())


def test_four_processes_at_once_lose_no_commit(s3_lake: Lake) -> None:
    appenders = [_writer(s3_lake, "append", numbers) for numbers in (range(101, 106), range(106, 111))]
    replacers = [_writer(s3_lake, "replace", numbers) for numbers in (range(2, 7), range(7, 12))]
    ended = [(writer.communicate(timeout=400)[0], writer.returncode) for writer in appenders + replacers]
    assert [code for _, code in ended] == [0] * 4, ended
    table = s3_lake.table("raw", "fraud")
    days = [date(2026, 11, n) for n in range(2, 12)]
    assert [(d.day, d.rows) for d in table.days()] == [(DAY, 10), *((day, 1) for day in days)]
    assert _values(s3_lake, DAY) == list(range(101, 111))
    assert _values(s3_lake, *days) == list(range(2, 12))


def test_server_killed_in_the_middle_of_commits_leaves_whole_tables(own_server: OwnServer) -> None:
    for pause in (0.05, 0.4):
        lake = Lake(f"s3://crash/{uuid.uuid4().hex}", {**own_server.keys.options, **PATIENT})
        lake.table("raw", "fraud").append_day(DAY, pa.table({"value": [0]}))
        writer = _writer(lake, "append", range(1, 10_000))  # more than it has time for
        assert writer.stdout is not None
        told = [int(writer.stdout.readline())]
        time.sleep(pause)
        own_server.kill()
        rest, _ = writer.communicate(timeout=240)
        assert writer.returncode == LakeUnavailable.exit_code, rest
        *more, last = rest.splitlines()
        told += [int(line) for line in more]
        assert last.startswith(f"unavailable {told[-1] + 1} ")
        own_server.start()
        found = _values(lake, DAY)
        assert found in (list(range(told[-1] + 1)), list(range(told[-1] + 2)))
        again = lake.table("raw", "fraud").append_day(DAY, pa.table({"value": [told[-1] + 1]}))
        assert _values(lake, DAY) == list(range(told[-1] + 2))
        lake.table("raw", "fraud").verify(again)
