"""`evergreen demo` waits for the parts it started itself, and `evergreen stop` says what it ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from evergreen.cli import main
from evergreen.errors import ConfigurationError
from evergreen.standalone.control import start_detached, stop
from evergreen.standalone.home import Home, describe_process

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh run directory, the one that commands use."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    return Home.at(tmp_path / "home")


@pytest.fixture
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, as parts are."""
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def supervising() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when asked, and ends nothing else."""
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def _note(home: Home, **state: object) -> None:
    home.state_file.write_text(json.dumps(state))


def _described(process: subprocess.Popen[bytes]) -> dict[str, object]:
    return describe_process(psutil.Process(process.pid))


def test_last_words_of_a_killed_supervisor_are_not_taken_for_the_new_ones(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    _note(home, supervisor=describe_process(psutil.Process()) | {"started": 1.0}, phase="ready", parts={})
    phases: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for part in ("CLUSTER", "SERVING", "AIRFLOW"):
            monkeypatch.setenv(f"EVERGREEN_{part}_PORT", str(port))
        with pytest.raises(ConfigurationError, match=rf"Port {port} for cluster: found another program"):
            start_detached(home, phases.append)
    assert set(phases) == {"starting"}


def test_phase_of_a_living_supervisor_counts(home: Home) -> None:
    _note(home, supervisor=describe_process(psutil.Process()), phase="ready")
    phases: list[str] = []
    start_detached(home, phases.append)
    assert phases == ["ready"]


def test_stop_names_what_a_killed_supervisor_left(home: Home, sleeping: subprocess.Popen[bytes]) -> None:
    _note(home, parts={"serving": _described(sleeping)})
    assert CliRunner().invoke(main, ["stop"]).stdout == "Stopped serving.\n"
    assert sleeping.wait(60) != 0
    assert CliRunner().invoke(main, ["stop"]).stdout == "Nothing was running.\n"


def test_stop_ends_what_a_supervisor_could_not(
    home: Home, sleeping: subprocess.Popen[bytes], supervising: subprocess.Popen[bytes]
) -> None:
    _note(home, supervisor=_described(supervising), parts={"serving": _described(sleeping)})
    assert stop(home) == ["evergreen up", "serving"]
    assert sleeping.wait(60) != 0
