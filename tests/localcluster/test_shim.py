from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evergreen.localcluster.container_handle import Launch
from evergreen.localcluster.wire import read_json, write_json


def start_shim(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", "-m", "evergreen.localcluster.shim", str(directory)])


def test_container_directory_is_run_once_however_many_shims_are_started_in_it(tmp_path: Path) -> None:
    launch = Launch(
        argv=["sh", "-c", "echo ran; sleep 0.5; exit 4"],
        environment={"PATH": "/usr/bin:/bin"},
        working_directory=tmp_path,
        memory_limit_bytes=None,
        grace_seconds=1.0,
        deadline=None,
    )
    write_json(tmp_path / "launch.json", launch.as_json())
    together = [start_shim(tmp_path) for _ in range(3)]
    assert [shim.wait(60) for shim in together] == [0, 0, 0]
    assert start_shim(tmp_path).wait(60) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[31:] for line in lines] == ["ran"]
    result = read_json(tmp_path / "exit.json")
    assert result is not None
    assert (result["exitCode"], result["reason"]) == (4, "Error")
