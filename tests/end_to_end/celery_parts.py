"""A real Redis of one's own, and Celery workers of a running installation."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from celery import Celery

from end_to_end.installation import PROJECT, TASK_TITLE, wait_until
from loopback import free_port

SETTINGS = PROJECT / "docker" / "airflow" / "executors" / "celery.env"


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """URL of a Redis on loopback that asks for a password; it ends with the block."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    port, password = free_port(), secrets.token_hex(16)
    settings = folder / "redis.conf"
    settings.touch(mode=0o600)
    settings.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nsave ""\nappendonly no\n', encoding="utf-8"
    )
    with (folder / "redis.log").open("ab") as log:
        server = subprocess.Popen([program, str(settings)], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), "Redis")
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(240)


def celery_variables(secrets_folder: Path, broker_url: str) -> dict[str, str]:
    """The variables of celery.env as they ship, its secrets read from `secrets_folder`."""
    secrets_folder.mkdir(mode=0o700)
    (secrets_folder / "celery_broker_url").write_text(broker_url)
    lines = [line for line in SETTINGS.read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines)
    return {name: value.replace("/run/secrets", str(secrets_folder)) for name, value in settings.items()}


@dataclass(frozen=True)
class Worker:
    """A Celery worker in a process group of its own, as on a machine of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @contextmanager
    def halted(self) -> Iterator[set[str]]:
        """Ids of the tasks it runs; neither worker nor tasks do anything within the block."""
        family = self._family()
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            titles = [title for each in family if (title := _title(each)).startswith(TASK_TITLE)]
            yield {title.removeprefix(TASK_TITLE) for title in titles}
        finally:
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def kill(self) -> None:
        """Ends worker and tasks with SIGKILL, as when its machine loses power."""
        for each in self._family():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(240)

    def stop(self) -> None:
        """Asks it to finish what it runs, and ends it when it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def _family(self) -> list[psutil.Process]:
        # A task is a session of its own: what the worker started is found by parentage, the worker first.
        worker = psutil.Process(self.process.pid)
        return [worker, *worker.children(recursive=True)]


def start_worker(name: str, home: Path) -> Worker:
    """A worker with the variables that `evergreen up` gave its own parts."""
    log = home / "logs" / f"worker-{name}.log"
    words = ["celery", "worker", "--celery-hostname", f"{name}@local", "--skip-serve-logs"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "evergreen.standalone.worker", *words[2:]],
            env=json.loads((home / "environment.json").read_text()),
            cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    return Worker(name, process, log)


def tasks_taken(broker_url: str) -> dict[str, int]:
    """How many tasks each living worker has taken so far, by the worker's name."""
    with Celery(broker=broker_url) as app:
        answers = app.control.inspect(timeout=5).stats() or {}
    return {name.partition("@")[0]: sum(stats["total"].values()) for name, stats in answers.items()}


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline()).strip()
    return ""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
