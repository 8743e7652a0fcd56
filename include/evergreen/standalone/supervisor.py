"""`evergreen up`: starts every part, restarts what dies, ends all of it on SIGTERM or Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from evergreen.deployment.rollout import reconcile
from evergreen.errors import ConfigurationError, TemporaryError
from evergreen.features.definitions import check_features
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline_file import pipeline_files, read_pipelines
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import admin_session
from evergreen.standalone.database import EmbeddedPostgres
from evergreen.standalone.environment import part_environment, passwords_file
from evergreen.standalone.home import Home, describe_process, find_process, write_private
from evergreen.standalone.parts import Part, parts, require_free_ports
from evergreen.standalone.preparation import POOL

logger = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
DATABASE_LOOK_SECONDS = 5.0
"""How often the database is asked, and the specs are looked at."""
STOP_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
"""A part that ran this long is started again after the first pause, whatever was before."""
TRAINING_PODS_AT_ONCE = 1


@dataclass
class Running:
    """A part and the process it is at the moment."""

    part: Part
    environment: Mapping[str, str]
    home: Home
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: float = 0.0
    next_start: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    """Seconds until the next start, should it die soon."""

    def start(self) -> None:
        """Starts the process in a session of its own, output into the part's log."""
        with self.home.log(self.part.name).open("ab") as log:
            self.process = subprocess.Popen(
                self.part.command, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd=self.home.root,
            )  # fmt: skip
        self.started = time.monotonic()

    def watch(self) -> bool:
        """Whether anything changed: a dead process is started again, after a pause that doubles."""
        if self.process is None or self.process.poll() is None:
            return False
        if self.next_start == 0.0:
            logger.warning("%s ended with %s; starting it again", self.part.name, self.process.returncode)
            if time.monotonic() - self.started > HEALTHY_SECONDS:
                self.pause = FIRST_PAUSE_SECONDS
            self._postpone()
            end_group(self.process.pid)
        if time.monotonic() < self.next_start:
            return False
        try:
            self.start()
        except OSError as error:  # no space for its log, no memory for it
            logger.error("%s cannot start, so it waits: %s", self.part.name, error)
            self._postpone()
            return False
        self.restarts, self.next_start = self.restarts + 1, 0.0
        return True

    def _postpone(self) -> None:
        self.next_start = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)

    def renew(self) -> None:
        """Asks the process to end; `watch` then starts it again after the first pause."""
        self.pause = FIRST_PAUSE_SECONDS
        self.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Asks the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Waits for the process to end, then makes it and everything it started."""
        if self.process is not None:
            stop_group(self.process.pid, STOP_SECONDS)
            self.process.wait()


@dataclass
class Supervisor:
    """All parts of one run directory."""

    settings: Settings
    home: Home
    running: list[Running] = field(default_factory=list)
    stopping: bool = False
    specs: str = ""
    """Digest of the spec files when they were last looked at."""

    def run(self) -> None:
        """Starts everything and stays until told to stop. ConfigurationError when it cannot start."""
        other = self.home.supervisor()
        if other is not None:
            raise ConfigurationError(
                f"Run directory {self.home.root}",
                found=f"`evergreen up` running as process {other.pid}",
                wanted="no other one",
                remedy="Use it, or end it with `evergreen stop`.",
            )
        end_leftovers(self.home)
        wanted = parts(self.settings, self.home)
        require_free_ports(wanted)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        database = EmbeddedPostgres(self.home.postgres)
        try:
            self._note("starting PostgreSQL")
            database.start()
            self._start(wanted, database)
            self._watch(database)
        finally:
            self._note("stopping")
            for one in self.running:
                one.ask_to_stop()
            for one in self.running:
                one.stop()
            database.stop()
            self.home.state_file.unlink(missing_ok=True)

    def _start(self, wanted: list[Part], database: EmbeddedPostgres) -> None:
        ledger_url = os.environ.get("EVERGREEN_DATABASE_URL", database.url("evergreen"))
        environment = part_environment(
            self.settings, self.home,
            airflow_url=database.url("airflow"), ledger_url=ledger_url, source_url=database.plain_url("source"),
        )  # fmt: skip
        write_private(self.home.root / "environment.json", json.dumps(environment))
        write_private(passwords_file(self.home), json.dumps({"admin": self.home.secrets()["password"]}))
        self._note("preparing databases")
        self._migrate(environment)
        ledger = Ledger(ledger_url)
        ledger.migrate()
        lake = Lake(self.settings.lake_url, self.settings.lake_options)
        for pipeline in read_pipelines(self.settings.pipelines)[0]:
            reconcile(pipeline.pipeline, ledger, lake)
        self.specs = files_digest(self.settings.pipelines)
        for part in wanted:
            if not self.stopping:
                self.running.append(Running(part, environment, self.home))
                self.running[-1].start()
                self._note(f"starting {part.name}")

    def _migrate(self, environment: Mapping[str, str]) -> None:
        with self.home.log("migrate").open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=dict(environment), stdout=log, stderr=log, check=False, start_new_session=True,
            )  # fmt: skip
        if done.returncode != 0:
            raise ConfigurationError(
                "Airflow's metadata database",
                found=f"a migration that ended with {done.returncode}",
                wanted="an up-to-date schema",
                remedy=f"See {self.home.log('migrate')}.",
            )

    def _watch(self, database: EmbeddedPostgres) -> None:
        looked, changed = time.monotonic(), False
        while not self.stopping:
            changed |= sum(one.watch() for one in self.running) > 0
            if changed or self.home.state().get("phase") != self._phase():
                changed = not self._note(self._phase())
            if time.monotonic() - looked > DATABASE_LOOK_SECONDS:
                looked = time.monotonic()
                if not database.alive():
                    revive(database)
                self._serve_specs()
            time.sleep(LOOK_SECONDS)

    def _serve_specs(self) -> None:
        """Starts serving again when the spec files changed; one with a mistake would only take its pipeline away."""
        serving = next((one for one in self.running if one.part.name == "serving"), None)
        found = files_digest(self.settings.pipelines)
        if serving is None or found == self.specs:
            return
        self.specs = found
        mistakes = spec_mistakes(self.settings.pipelines)
        for mistake in mistakes:
            logger.error("serving keeps the specs it has: %s", mistake)
        if not mistakes:
            logger.info("the specs changed; starting serving again")
            serving.renew()

    def _phase(self) -> str:
        if self.home.state().get("phase") == "ready":
            return "ready"
        waiting = [one.part.name for one in self.running if not one.part.ready()]
        if waiting:
            return f"waiting for {waiting[0]}"
        return "ready" if self._pool_is_there() else "preparing Airflow"

    def _pool_is_there(self) -> bool:
        """Whether Airflow has the pool that training pods share; without it they would wait for ever."""
        session = admin_session(self.settings, self.home)
        try:
            session.ensure_pool(POOL, TRAINING_PODS_AT_ONCE, "Training pods at once")
        except (httpx.HTTPError, TemporaryError):
            return False
        session.close()
        return True

    def _note(self, phase: str) -> bool:
        """Whether the note could be written; nothing is left running or undone for the lack of one."""
        described = {
            one.part.name: describe_process(psutil.Process(one.process.pid)) | {"restarts": one.restarts}
            for one in self.running
            if one.process is not None and psutil.pid_exists(one.process.pid)
        }
        state = {"supervisor": describe_process(psutil.Process()), "phase": phase, "parts": described}
        try:
            write_private(self.home.state_file, json.dumps(state))
        except OSError as error:
            logger.error("Cannot note %r in %s: %s", phase, self.home.state_file, error)
            return False
        return True

    def _ask_to_stop(self, signum: int, frame: object) -> None:
        self.stopping = True


def files_digest(folder: Path) -> str:
    """SHA-256 of the names and bytes of the spec files in `folder`; one that cannot be read counts by its name."""
    said = hashlib.sha256()
    for path in pipeline_files(folder):
        said.update(f"{path.name}\n".encode())
        try:
            said.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError:  # gone since it was listed, or forbidden: whoever reads the spec says so
            continue
    return said.hexdigest()


def spec_mistakes(folder: Path) -> list[ConfigurationError]:
    """An error for each spec in `folder` that cannot be read or whose features cannot be computed."""
    pipelines, mistakes = read_pipelines(folder)
    for pipeline in pipelines:
        try:
            check_features(pipeline)
        except ConfigurationError as error:
            mistakes.append(error)
    return mistakes


def revive(database: EmbeddedPostgres) -> None:
    """Starts a database that does not answer; where that fails, the next look tries again."""
    logger.warning("PostgreSQL does not answer; starting it again")
    try:
        database.start()
    except TemporaryError as error:
        logger.error("%s", error)


def end_leftovers(home: Home) -> list[str]:
    """Names of what a killed supervisor left behind, PostgreSQL last; all of it has ended."""
    described, ended = home.state().get("parts"), []
    for name, one in (described if isinstance(described, dict) else {}).items():
        process = find_process(one)
        if process is not None:
            logger.warning("Ending %s, left behind by an earlier run", name)
            stop_group(process.pid, STOP_SECONDS)
            ended.append(name)
    if EmbeddedPostgres(home.postgres).stop():
        logger.warning("Ended PostgreSQL, left behind by an earlier run")
        ended.append("PostgreSQL")
    home.state_file.unlink(missing_ok=True)
    return ended


def stop_group(pid: int, seconds: float) -> None:
    """Ends the process group of `pid`: SIGTERM, patience, SIGKILL."""
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and group_members(pid):
        time.sleep(0.1)
    end_group(pid)


def end_group(pid: int) -> None:
    """Kills whatever is left of the process group of `pid`."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def group_members(group: int) -> list[int]:
    """Pids of the living, unreaped-zombie-free members of a process group."""
    members = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except ProcessLookupError:
            continue
    return members
