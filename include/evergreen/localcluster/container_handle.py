"""The server's hold on one container: start its shim, see how it is doing, have it ended.

Everything is read from the container's directory, so a new server knows as much as the one before it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from evergreen.localcluster.container_environment import POD_UID_VARIABLE
from evergreen.localcluster.pod_status import ContainerState, Running, Terminated, Waiting
from evergreen.localcluster.shim import take_lock
from evergreen.localcluster.wire import Json, read_json, rfc3339, write_json

_START_PATIENCE_SECONDS = 10.0
"""How long a shim that was started again may take to show itself before its container counts as lost."""
CREATING = Waiting(reason="ContainerCreating")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All a shim must know to run a container."""

    argv: list[str]
    environment: dict[str, str]
    working_directory: Path
    memory_limit_bytes: int | None
    grace_seconds: float
    deadline: float | None
    """Epoch seconds at which the pod has run long enough, or None."""

    def as_json(self) -> Json:
        """The content of launch.json."""
        return {
            "argv": self.argv,
            "environment": self.environment,
            "workingDirectory": str(self.working_directory),
            "memoryLimitBytes": self.memory_limit_bytes,
            "graceSeconds": self.grace_seconds,
            "deadline": self.deadline,
        }


class Shims:
    """The shims this server started. Adopted ones, of a server before it, are known by their locks alone."""

    def __init__(self) -> None:
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}
        self.started_again: dict[Path, float] = {}

    def start(self, directory: Path) -> None:
        """Start the shim of a container, in a session of its own: it survives this server."""
        command = [sys.executable, "-P", "-m", "evergreen.localcluster.shim", str(directory)]
        with (directory / "shim.err").open("ab") as complaints:
            self._processes[directory] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                cwd=directory,
                start_new_session=True,
            )

    def live(self, directory: Path) -> bool:
        """Whether a shim works in that directory, ours or an adopted one."""
        process = self._processes.get(directory)
        if process is not None and process.poll() is None:
            return True
        lock = take_lock(directory)
        if lock is None:
            return True
        os.close(lock)
        return False

    def any(self) -> bool:
        """Whether a shim of ours is still to be taken leave of."""
        return bool(self._processes)

    def reap(self) -> None:
        """Take leave of shims that have ended, so that none stays a zombie."""
        ended = [directory for directory, process in self._processes.items() if process.poll() is not None]
        for directory in ended:
            del self._processes[directory]


class ContainerHandle:
    """One container, by its directory."""

    def __init__(self, directory: Path, shims: Shims) -> None:
        self.directory = directory
        self._shims = shims

    @property
    def launched(self) -> bool:
        """Whether a shim was started here, by this server or one before it."""
        return (self.directory / "launch.json").exists()

    def launch(self, launch: Launch) -> None:
        """Start the container."""
        write_json(self.directory / "launch.json", launch.as_json())
        self._shims.start(self.directory)

    def observe(self) -> ContainerState:
        """How the container is doing, from what its shim wrote and whether the shim lives."""
        if (ended := self._result()) is not None:
            return ended
        if not self.launched:
            return CREATING
        alive = self._shims.live(self.directory)
        # A shim that ended between the two looks has left its result meanwhile.
        if not alive and (ended := self._result()) is not None:
            return ended
        running = read_json(self.directory / "running.json")
        if running is None:
            return CREATING if alive else self._start_again_when_stuck()
        return Running(started_at=running["startedAt"]) if alive else self._lost(running["startedAt"])

    def _result(self) -> Terminated | None:
        result = read_json(self.directory / "exit.json")
        if result is None:
            return None
        return Terminated(
            exit_code=result["exitCode"],
            reason=result["reason"],
            started_at=result["startedAt"],
            finished_at=result["finishedAt"],
            message=result["message"],
            cause=result["cause"],
        )

    def _start_again_when_stuck(self) -> ContainerState:
        """A server died between writing launch.json and starting the shim: safe, a directory runs once."""
        again = self._shims.started_again.get(self.directory)
        age = time.time() - (self.directory / "launch.json").stat().st_mtime
        if again is None and age > 1.0:
            self._shims.started_again[self.directory] = time.monotonic()
            self._shims.start(self.directory)
        if again is not None and time.monotonic() - again > _START_PATIENCE_SECONDS:
            return self._lost(None)
        return CREATING

    def _lost(self, started_at: str | None) -> Terminated:
        """The shim was killed, or the machine restarted: nobody knows how the container ended."""
        end_marked_processes(self._pod_uid())
        result = {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "startedAt": started_at,
            "finishedAt": rfc3339(),
            "cause": None,
        }
        write_json(self.directory / "exit.json", result)
        ended = self._result()
        assert ended is not None  # noqa: S101 - written above
        return ended

    def _pod_uid(self) -> str:
        return self.directory.parent.parent.name

    def stop(self, *, at: float, grace_seconds: float, reason: str | None = None) -> None:
        """Have the container ended: SIGTERM now, SIGKILL after the grace. Asking again is harmless."""
        order = {"at": at, "graceSeconds": grace_seconds, "reason": reason}
        if read_json(self.directory / "stop.json") != order:
            write_json(self.directory / "stop.json", order)
        # Without running.json the shim has yet to read stop.json by itself.
        running = read_json(self.directory / "running.json")
        if running is not None and self._shims.live(self.directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running["shim"], signal.SIGTERM)

    def destroy(self) -> None:
        """End a shim that does not answer, and all processes of its pod."""
        end_marked_processes(self._pod_uid())
        running = read_json(self.directory / "running.json")
        if running is not None and self._shims.live(self.directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running["shim"], signal.SIGKILL)


def end_marked_processes(pod_uid: str) -> None:
    """Kill every process that carries this pod's uid in its environment, until none is left."""
    for _ in range(10):
        found = [process for process in psutil.process_iter() if _is_marked(process, pod_uid)]
        if not found:
            return
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _is_marked(process: psutil.Process, pod_uid: str) -> bool:
    try:
        return process.environ().get(POD_UID_VARIABLE) == pod_uid
    except (psutil.Error, OSError):
        return False
