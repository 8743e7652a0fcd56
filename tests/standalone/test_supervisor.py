"""One sick part, disk or database ends nothing else, and what is told to end does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import psutil
import pytest

from evergreen.settings import PROJECT, Settings
from evergreen.standalone import supervisor
from evergreen.standalone.home import Home
from evergreen.standalone.parts import Part
from evergreen.standalone.supervisor import LONGEST_PAUSE_SECONDS, Running, Supervisor

SPEC = (PROJECT / "include" / "pipelines" / "fraud.yaml").read_text()
SLEEPER = Part(name="sleeper", command=(sys.executable, "-c", "import time; time.sleep(600)"))
ENDING = Part(name="ending", command=("true",))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh run directory."""
    return Home.at(tmp_path / "home")


@pytest.fixture
def ended(home: Home) -> Running:
    """A part that has just died."""
    one = Running(ENDING, os.environ, home)
    one.start()
    assert one.process is not None
    one.process.wait()
    return one


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Puts back the handlers that a supervisor takes for itself."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _die(one: Running, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a dead part be started and die at once, again and again."""
    monkeypatch.setattr(Running, "start", lambda self: setattr(self, "started", time.monotonic()))
    one.start()
    for _ in range(times):
        one.watch()
        one.next_start = -1.0  # the pause is over
        assert one.watch()
    one.watch()


def _pause(one: Running) -> float:
    return one.next_start - time.monotonic()


def test_part_that_dies_for_days_is_started_every_half_minute(ended: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    _die(ended, 1100, monkeypatch)
    assert LONGEST_PAUSE_SECONDS - 1 < _pause(ended) <= LONGEST_PAUSE_SECONDS
    assert ended.restarts == 1100


def test_part_that_ran_well_for_a_while_is_started_soon(ended: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    _die(ended, 20, monkeypatch)
    ended.next_start = -1.0
    assert ended.watch()
    ended.started -= 3600
    ended.watch()
    assert _pause(ended) < 1


def test_part_that_cannot_be_started_waits_for_its_next_turn(ended: Running, home: Home) -> None:
    rmtree(home.root / "logs")
    ended.watch()
    ended.next_start = -1.0
    assert not ended.watch()
    assert _pause(ended) > 0
    (home.root / "logs").mkdir()
    ended.next_start = -1.0
    assert ended.watch()
    ended.stop()


class _Database:
    """Stands in for PostgreSQL."""

    def __init__(self) -> None:
        self.stopped = 0

    def start(self) -> None:
        """Is there at once."""

    def stop(self) -> bool:
        self.stopped += 1
        return False


class _OnFullDisk(Supervisor):
    """One part runs, and from then on no note can be written."""

    def _start(self, wanted: object, database: object) -> None:
        self.home.state_file.with_suffix(".new").mkdir()
        self.running.append(Running(SLEEPER, os.environ, self.home))
        self.running[0].start()

    def _phase(self) -> str:
        self.stopping = True
        return "ready"


@pytest.mark.usefixtures("own_signals")
def test_full_disk_keeps_nothing_from_being_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    database = _Database()
    monkeypatch.setattr(supervisor, "EmbeddedPostgres", lambda directory: database)
    monkeypatch.setattr(supervisor, "parts", lambda settings, home: [])
    one = _OnFullDisk(Settings.from_environment({"EVERGREEN_HOME": str(home.root)}), home)
    one.run()
    process = one.running[0].process
    assert process is not None
    assert not psutil.pid_exists(process.pid)
    assert database.stopped == 2  # leftovers first, itself last
    assert home.state() == {}


class _Watching(_Database):
    """Answers a supervisor's question at each of its looks, and stops it at the fortieth."""

    def __init__(self, one: Supervisor) -> None:
        super().__init__()
        self.one, self.looks = one, 0

    def alive(self) -> bool:
        self.looks += 1
        self.one.stopping = self.looks == 40
        return True


@pytest.fixture
def edited(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A supervisor of serving alone, which serves the one spec in a folder that can be edited."""
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "DATABASE_LOOK_SECONDS", 0)
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "fraud.yaml").write_text(SPEC)
    settings = Settings.from_environment({"EVERGREEN_HOME": str(home.root), "EVERGREEN_PIPELINES": str(folder)})
    serving = Running(replace(SLEEPER, name="serving"), os.environ, home)
    serving.start()
    one = Supervisor(settings, home, [serving])
    one._note("ready")
    _restarts(one, "fraud.yaml", SPEC)
    yield one
    serving.stop()


def _restarts(edited: Supervisor, spec: str, text: str) -> int:
    """How often serving was started again in the time after the spec file was written."""
    serving = edited.running[0]
    before, edited.stopping = serving.restarts, False
    (edited.settings.pipelines / spec).write_text(text)
    edited._watch(_Watching(edited))  # type: ignore[arg-type]
    return serving.restarts - before


def test_serving_takes_up_a_new_spec_and_an_edited_one(edited: Supervisor) -> None:
    longer = SPEC.replace("over: 7d", "over: 8d")
    assert _restarts(edited, "visits.yaml", SPEC.replace("pipeline: fraud", "pipeline: visits")) == 1
    assert _restarts(edited, "fraud.yaml", longer) == 1
    assert _restarts(edited, "fraud.yaml", longer) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("pipeline: fraud", "pipeline: [fraud", "well-formed YAML"), ("log1p(", "log2p(", "log2p")],
    ids=["no YAML", "no such function"],
)
def test_spec_with_a_mistake_takes_no_pipeline_away(
    edited: Supervisor, caplog: pytest.LogCaptureFixture, old: str, new: str, said: str
) -> None:
    caplog.clear()
    assert _restarts(edited, "fraud.yaml", SPEC.replace(old, new)) == 0
    assert [said in line for line in caplog.messages] == [True]
    assert _restarts(edited, "fraud.yaml", SPEC) == 1
