"""Runs one container: `python -m evergreen.localcluster.shim DIRECTORY`.

The shim, not the API server, owns the container, so that the server may die and come back while pods run. All they
share is the container's directory:

    launch.json    written by the server: argv, environment, working directory, limits
    shim.lock      held as long as the shim lives (so a stale process id is never trusted)
    running.json   written once the process has started
    log            the output, each line after its time; times strictly increase
    stop.json      written by the server: how the container is to end
    exit.json      written last: exit code, reason, times

A directory is run once: a second shim in it finds the lock or the traces of the first and leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from evergreen.localcluster.log_writer import LogWriter
from evergreen.localcluster.process_tree import (
    MemoryMeter,
    adopt_orphans,
    die_with_parent,
    kill_descendants,
    reap,
)
from evergreen.localcluster.wire import Json, read_json, rfc3339, write_json

MEMORY_SAMPLE_SECONDS = 0.05
KILLED = 128 + signal.SIGKILL
_CANNOT_RUN = 128
"""Exit code containerd gives a container whose command cannot be executed."""


def main(directory: Path) -> None:
    """Run the container of this directory to its end, unless it was run before."""
    lock = take_lock(directory, patience_seconds=1.0)
    if lock is None or any((directory / name).exists() for name in ("running.json", "exit.json")):
        return
    launch = read_json(directory / "launch.json")
    if launch is None:
        return
    wakeup = _wake_on_signals()
    adopt_orphans()
    Container(directory, launch, wakeup).run()


def take_lock(directory: Path, *, patience_seconds: float = 0.0) -> int | None:
    """A file descriptor that holds the container's lock, or None while another process holds it.

    A shim is patient, since a server that asks whether anybody holds the lock holds it for a moment itself.
    """
    descriptor = os.open(directory / "shim.lock", os.O_RDWR | os.O_CREAT, 0o600)
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                return None
            time.sleep(0.01)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable whenever a child ends or somebody asks us to stop."""
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return read_end


class Container:
    """One run of one command, from its start to `exit.json`."""

    def __init__(self, directory: Path, launch: Json, wakeup: int) -> None:
        self._directory = directory
        self._launch = launch
        self._wakeup = wakeup
        self._log = LogWriter(directory / "log")
        self._memory = MemoryMeter()
        self._memory_limit: int | None = launch["memoryLimitBytes"]
        self._deadline: float | None = launch["deadline"]
        self._sample_at = 0.0
        self._started_at = rfc3339()
        self._kill_at: float | None = None
        self._told_to_stop = False
        self._reason: str | None = None
        self._cause: str | None = None

    def run(self) -> None:
        """Start the command, look after it, and leave its result behind."""
        read_end, write_end = os.pipe()
        try:
            self._pid = self._spawn(write_end)
        except OSError as error:
            self._finish(_CANNOT_RUN, "StartError", _start_problem(self._launch["argv"], error))
            return
        finally:
            os.close(write_end)
        running = {"shim": os.getpid(), "pid": self._pid, "startedAt": self._started_at}
        write_json(self._directory / "running.json", running)
        exit_code = self._watch(read_end)
        kill_descendants(self._pid)
        self._log.drain(read_end)
        reason = self._reason or ("Completed" if exit_code == 0 else "Error")
        self._finish(exit_code, reason, None)

    def _spawn(self, output: int) -> int:
        launch = self._launch
        # The command is looked up on the container's own PATH, not on ours.
        program = shutil.which(launch["argv"][0], path=launch["environment"].get("PATH", os.defpath))
        process = subprocess.Popen(
            launch["argv"],
            executable=program or launch["argv"][0],
            env=launch["environment"],
            cwd=launch["workingDirectory"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        process.returncode = 0  # reaped below with every other descendant, never by Popen
        return process.pid

    def _watch(self, output: int) -> int:
        """The exit code of the command, once it has ended."""
        os.set_blocking(output, False)
        selector = selectors.DefaultSelector()
        selector.register(output, selectors.EVENT_READ)
        selector.register(self._wakeup, selectors.EVENT_READ)
        while True:
            self._obey_stop_order()
            self._enforce(time.time())
            for key, _ in selector.select(self._seconds_to_next_duty()):
                if key.fd == output and not self._log.pump(output):
                    selector.unregister(output)
                elif key.fd == self._wakeup:
                    os.read(self._wakeup, 4096)
            ended = reap()
            if self._pid in ended:
                return ended[self._pid]

    def _seconds_to_next_duty(self) -> float | None:
        now = time.time()
        due = [moment - now for moment in (self._kill_at, self._deadline) if moment is not None]
        if self._memory_limit is not None:
            due.append(self._sample_at - now)
        return max(0.0, min(due)) if due else None

    def _obey_stop_order(self) -> None:
        order = read_json(self._directory / "stop.json")
        if order is not None:
            self._reason = self._reason or order.get("reason")
            self._stop(order["at"] + order["graceSeconds"])

    def _stop(self, kill_at: float) -> None:
        """Ask once, and remember the earliest moment at which asking ends."""
        self._kill_at = min(kill_at, self._kill_at or kill_at)
        if not self._told_to_stop:
            self._told_to_stop = True
            if self._kill_at > time.time():
                self._signal(signal.SIGTERM)

    def _enforce(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline:
            self._deadline, self._cause = None, "DeadlineExceeded"
            self._stop(now + self._launch["graceSeconds"])
        if self._memory_limit is not None and now >= self._sample_at:
            self._sample_at = now + MEMORY_SAMPLE_SECONDS
            if self._memory.exceeds(self._memory_limit):
                self._reason, self._kill_at = "OOMKilled", now
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # As in a real container, its first process is told; when that ends, the rest goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _finish(self, exit_code: int, reason: str, message: str | None) -> None:
        result = {
            "exitCode": KILLED if reason == "OOMKilled" else exit_code,
            "reason": reason,
            "cause": self._cause,
            "message": message,
            "startedAt": self._started_at,
            "finishedAt": rfc3339(),
        }
        self._log.close()
        while True:
            try:
                write_json(self._directory / "exit.json", result)
                return
            except OSError:
                time.sleep(1.0)  # a full disk: the result is the one thing that must not be lost


def _start_problem(argv: list[str], error: OSError) -> str:
    """What containerd and runc say when a command cannot be executed."""
    program = argv[0]
    if isinstance(error, FileNotFoundError):
        found = f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
    else:
        found = (error.strerror or str(error)).lower()
    runc = f'runc create failed: unable to start container process: exec: "{program}": {found}: unknown'
    return f"failed to create containerd task: failed to create shim task: OCI runtime create failed: {runc}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
