"""Starting and ending `evergreen up` from another process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import psutil

from evergreen.errors import ConfigurationError, TemporaryError
from evergreen.standalone.home import Home
from evergreen.standalone.supervisor import end_leftovers

START_SECONDS = 300.0
STOP_SECONDS = 90.0


def start_detached(home: Home, on_phase: Callable[[str], None]) -> None:
    """Returns when `evergreen up` runs in the background and all parts answer.

    Raises ConfigurationError with the supervisor's own words when it ended instead.
    """
    child = _spawn(home) if home.supervisor() is None else None
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        phase = _phase(home)
        on_phase(phase)
        if phase == "ready":
            return
        if child is not None and os.waitpid(child, os.WNOHANG)[0]:
            raise _did_not_start(home)
        time.sleep(0.5)
    raise TemporaryError(
        "evergreen up",
        found=f"{_phase(home)!r} after {START_SECONDS:.0f} s",
        wanted="all parts ready",
        remedy=f"See {home.root / 'logs'}, then try again.",
    )


def _phase(home: Home) -> str:
    """What the living supervisor says of itself; a killed one left its last words behind."""
    said = {} if home.supervisor() is None else home.state()
    return str(said.get("phase", "starting"))


def _spawn(home: Home) -> int:
    """Pid of a new `evergreen up` in a session of its own, which outlives this process."""
    words = [sys.executable, "-m", "evergreen.cli", "up"]
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    output = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(home.log("up")), write, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(sys.executable, words, os.environ, file_actions=output, setsid=True)


def _did_not_start(home: Home) -> ConfigurationError:
    said = home.log("up").read_text(errors="replace").strip().splitlines()
    return ConfigurationError(
        "evergreen up",
        found=said[-1] if said else "an early end",
        wanted="all parts running",
        remedy=f"The whole log is {home.log('up')}.",
    )


def stop(home: Home) -> list[str]:
    """Names of what was ended: the running `evergreen up`, and what one that was killed left behind."""
    supervisor = home.supervisor()
    if supervisor is None:
        return end_leftovers(home)
    supervisor.terminate()
    try:
        supervisor.wait(STOP_SECONDS)
    except psutil.TimeoutExpired as error:
        raise TemporaryError(
            "evergreen up",
            found=f"still running {STOP_SECONDS:.0f} s after it was asked to stop",
            wanted="an end",
            remedy=f"Wait, or kill process {supervisor.pid}; see {home.log('up')}.",
        ) from error
    return ["evergreen up", *end_leftovers(home)]


def environment(home: Home) -> dict[str, str]:
    """The variables that the parts run with; empty when nothing was ever started here."""
    path = home.root / "environment.json"
    loaded: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return loaded
