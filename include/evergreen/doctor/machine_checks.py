"""The machine the doctor runs on: room on its disk, and its clock where nothing else can tell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from evergreen.doctor.check import Check, failed, ok, warning
from evergreen.settings import Settings

LEAST_BYTES = 1 << 30
COMFORTABLE_BYTES = 10 << 30


def examine_machine(settings: Settings) -> Iterator[Check]:
    """Room for what is kept in the run directory."""
    yield disk("run directory", settings.home, "EVERGREEN_HOME")


def disk(name: str, folder: Path, variable: str) -> Check:
    """Whether the disk of `folder`, or of the first folder above it that exists, has room left."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / (1 << 30):.1f} GiB free at {existing}"
    if free < LEAST_BYTES:
        return failed(name, found, f"Free space, or set {variable} to a larger disk.")
    if free < COMFORTABLE_BYTES:
        return warning(name, found, f"Watch it: below 1 GiB nothing is sure to be written. {variable} moves it.")
    return ok(name, found)


def clock(name: str, seconds: float, *, most: float, whose: str) -> Check:
    """Whether this machine's clock and that of `whose` agree; `most` seconds apart is where things fail."""
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {whose}"
    remedy = "Set both clocks by NTP (timedatectl set-ntp true)."
    if abs(seconds) >= most:
        return failed(name, found, remedy)
    if abs(seconds) > 5:
        return warning(name, found, remedy)
    return ok(name, f"within 5 s of {whose}")
