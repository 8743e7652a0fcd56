"""The run directory: where state, logs and secrets of one standalone installation lie.

<home>/                 0700
    supervisor.json     pid of `evergreen up` and of its parts
    secrets.json        passwords and keys, made once, 0600
    logs/<part>.log
    postgres/ airflow/ cluster/ serving/ lake/
    postgres.lock       (see database.py)
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import psutil

from evergreen.errors import ConfigurationError


@dataclass(frozen=True)
class Home:
    """One run directory."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Home:
        """The run directory at `root`, made if need be; ConfigurationError when it cannot be."""
        try:
            for folder in (root, root / "logs", root / "airflow"):
                folder.mkdir(parents=True, exist_ok=True)
            # PostgreSQL started by root runs as another user, which must be able to pass through.
            root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise ConfigurationError(
                f"Run directory {root}",
                found=error.strerror or str(error),
                wanted="a directory that can be written",
                remedy="Set EVERGREEN_HOME to one.",
            ) from error
        return cls(root)

    @property
    def state_file(self) -> Path:
        return self.root / "supervisor.json"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of this directory's own local cluster."""
        return self.root / "cluster" / "kubeconfig"

    def log(self, part: str) -> Path:
        """Where the output of a part goes."""
        return self.root / "logs" / f"{part}.log"

    def secrets(self) -> dict[str, str]:
        """Passwords and keys of this installation, made on first use."""
        path = self.root / "secrets.json"
        if not path.exists():
            made = {name: secrets.token_urlsafe(32) for name in ("jwt", "session")}
            made["password"] = secrets.token_urlsafe(12)
            made["fernet"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            write_private(path, json.dumps(made))
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded

    def supervisor(self) -> psutil.Process | None:
        """The running `evergreen up` of this directory, if there is one."""
        return find_process(self.state().get("supervisor"))

    def state(self) -> dict[str, object]:
        """What the supervisor last wrote about itself and its parts."""
        try:
            loaded: dict[str, object] = json.loads(self.state_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return loaded


def write_private(path: Path, text: str) -> None:
    """`text` at `path`, whole or not at all, readable by its owner alone."""
    staged = path.with_suffix(".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    staged.replace(path)


def describe_process(process: psutil.Process) -> dict[str, object]:
    """Pid and start, which together name a process for good."""
    return {"pid": process.pid, "started": _started(process)}


def find_process(described: object) -> psutil.Process | None:
    """The very process that was described, if it still runs."""
    if not isinstance(described, dict):
        return None
    try:
        process = psutil.Process(int(described["pid"]))
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        same = _is_start_of(process, described["started"])
    except psutil.NoSuchProcess:
        return None
    return process if alive and same else None


def _started(process: psutil.Process) -> str | float:
    """The boot and the clock ticks from it to the start; seconds since the epoch where there is no /proc.

    On Linux those seconds are reckoned from the wall clock, so they move when somebody sets it; see proc(5).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = Path(f"/proc/{process.pid}/stat").read_text(errors="replace")
    except OSError:
        return process.create_time()
    ticks = status.rpartition(")")[2].split()[19]  # the name before it may hold blanks and brackets
    return f"{boot} {ticks}"


def _is_start_of(process: psutil.Process, noted: str | float) -> bool:
    """Whether the process has the start that was noted, by an earlier release as seconds since the epoch too."""
    if isinstance(noted, str):
        return _started(process) == noted
    return abs(process.create_time() - noted) < 1
