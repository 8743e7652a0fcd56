"""Starting on one machine: taken ports, half-finished runs and wrong settings end in one clear sentence."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psutil
import pytest

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Pipeline
from evergreen.settings import Settings
from evergreen.standalone.calendar import remembered_calendar
from evergreen.standalone.home import Home, describe_process, find_process
from evergreen.standalone.parts import parts, require_free_ports
from evergreen.standalone.screen import curl_line
from evergreen.standalone.supervisor import end_leftovers, stop_group

SLEEP = "import time; time.sleep(600)"
FAMILY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}']); {SLEEP}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh run directory."""
    return Home.at(tmp_path / "home")


def _settings(home: Home, **variables: str) -> Settings:
    return Settings.from_environment({"EVERGREEN_HOME": str(home.root), **variables})


def _spawn(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True)


def test_taken_port_is_named_with_the_variable_that_moves_it(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = _settings(home, EVERGREEN_AIRFLOW_PORT=str(port))
        with pytest.raises(ConfigurationError, match=rf"Port {port} for api-server.*EVERGREEN_AIRFLOW_PORT"):
            require_free_ports(parts(settings, home))


def test_every_part_listens_on_loopback_only(home: Home) -> None:
    for part in parts(_settings(home), home):
        assert "0.0.0.0" not in part.command  # noqa: S104
        assert part.ready_url is None or part.ready_url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_wrong_port_is_refused_with_its_variable(home: Home, port: str) -> None:
    with pytest.raises(ConfigurationError, match="EVERGREEN_SERVING_PORT"):
        _settings(home, EVERGREEN_SERVING_PORT=port)


def test_secrets_are_made_once_and_private(home: Home) -> None:
    assert home.secrets() == home.secrets()
    assert (home.root / "secrets.json").stat().st_mode & 0o077 == 0


def test_run_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="EVERGREEN_HOME"):
        Home.at(tmp_path / "file" / "home")


def test_parts_left_behind_by_a_killed_supervisor_are_ended(home: Home) -> None:
    left = _spawn(SLEEP)
    described = describe_process(psutil.Process(left.pid))
    home.state_file.write_text(json.dumps({"parts": {"serving": described}}))
    end_leftovers(home)
    assert left.wait(60) != 0
    assert home.state() == {}


def test_reused_pid_is_not_taken_for_the_old_process(home: Home) -> None:
    described = describe_process(psutil.Process()) | {"started": 1.0}
    assert find_process(described) is None
    assert find_process(describe_process(psutil.Process())) is not None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc a start is known by the clock alone")
def test_process_is_found_again_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    described = json.loads(json.dumps(describe_process(psutil.Process())))
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    assert find_process(described) is not None
    assert find_process(described | {"pid": 1}) is None


def test_process_that_an_earlier_release_described_is_found() -> None:
    assert find_process({"pid": os.getpid(), "started": psutil.Process().create_time()}) is not None


def test_a_part_ends_with_all_it_started() -> None:
    parent = _spawn(FAMILY)
    deadline = time.monotonic() + 120
    while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    stop_group(parent.pid, 5)
    parent.wait(60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_second_up_in_one_directory_is_refused_in_one_sentence(home: Home) -> None:
    home.state_file.write_text(json.dumps({"supervisor": describe_process(psutil.Process())}))
    ended = subprocess.run(
        [sys.executable, "-m", "evergreen.cli", "up"],
        env=os.environ | {"EVERGREEN_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 64
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"process {os.getpid()}" in ended.stderr


def test_story_keeps_its_days_when_it_is_continued_later(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    first = remembered_calendar(path, yesterday=date(2026, 11, 20), rows_per_day=100)
    later = remembered_calendar(path, yesterday=date(2026, 11, 25), rows_per_day=100)
    assert later == first
    assert (first.first, first.history_end, first.last) == (date(2026, 10, 7), date(2026, 11, 5), date(2026, 11, 20))
    assert first.shifted == (date(2026, 11, 9), date(2026, 11, 20))
    with pytest.raises(ConfigurationError, match="make clean"):
        remembered_calendar(path, yesterday=date(2026, 11, 20), rows_per_day=200)


def test_curl_line_is_one_shell_command_with_valid_json(home: Home, fraud: Pipeline) -> None:
    words = shlex.split(curl_line(_settings(home), fraud))
    row = json.loads(words[-1])["rows"][0]
    assert set(row) == {*fraud.contract.columns, "event_time"}
    assert words[0] == "curl"
