"""A container's processes: how much memory they hold together, and how to end every one of them.

Imported by the shim, so it must stay light.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_LIST_AGAIN_SECONDS = 0.25
"""Listing a process tree reads all of /proc (milliseconds), reading its memory does not: do it less often."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies (Linux), so none escapes."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux); called between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def reap() -> dict[int, int]:
    """Exit codes by process id of all children that ended since the last call; 128 + n for signal n."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = 128 - code if code < 0 else code


def kill_descendants(group: int, *, patience_seconds: float = 10.0) -> dict[int, int]:
    """Exit codes of everything that was killed: all that descends from this process, daemons included."""
    ended: dict[int, int] = {}
    me = psutil.Process()
    give_up_at = time.monotonic() + patience_seconds
    while time.monotonic() < give_up_at:
        if _LIBC is None:
            _kill_group(group)  # without orphans to adopt, the group is the best there is
        living = [child for child in me.children(recursive=True) if _is_alive(child)]
        for child in living:
            _kill(child)
        ended |= reap()
        if not living:
            break
        time.sleep(0.005)
    return ended


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


class MemoryMeter:
    """The memory of this process's descendants, as a memory cgroup would count it."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._tree: list[psutil.Process] = []
        self._list_again_at = 0.0

    def exceeds(self, limit_bytes: int) -> bool:
        """Whether the tree holds more than the limit.

        Resident sizes are summed first: cheap, but shared pages count once a process and mapped files count
        at all. Only when that sum is over the limit are the shared pages split between their owners and file
        pages left out, since the kernel takes those back before it kills anything.
        """
        tree = self._listed()
        if sum(map(_resident_bytes, tree)) <= limit_bytes:
            return False
        return sum(map(_charged_bytes, tree)) > limit_bytes

    def _listed(self) -> list[psutil.Process]:
        if time.monotonic() >= self._list_again_at:
            self._tree = self._me.children(recursive=True)
            self._list_again_at = time.monotonic() + _LIST_AGAIN_SECONDS
        return self._tree


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _charged_bytes(process: psutil.Process) -> int:
    """Anonymous and shared memory, each page divided by its users; the resident size where unknown."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return _resident_bytes(process)
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith(" kB")}
    if "Pss_Anon" not in kilobytes:
        return _resident_bytes(process)
    return (kilobytes["Pss_Anon"] + kilobytes.get("Pss_Shmem", 0)) * 1024
