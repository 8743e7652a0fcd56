"""What this process is: its code, the libraries that decide its numbers, and the hardware it runs on.

Receipts carry it, so that a later run can say what differs, and a cache can tell that nothing does.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("deltalake", "lightgbm", "numba", "numpy", "onnx", "onnxruntime", "polars", "pyarrow", "torch")
"""Those whose release can change a number in a model."""
PACKAGE = Path(__file__).resolve().parent


@cache
def code_digest(trainer: Path | None = None) -> str:
    """SHA-256 over the name and content of every Python file of the package, and of a `trainer` of one's own."""
    digest = hashlib.sha256()
    for package in (PACKAGE, trainer) if trainer else (PACKAGE,):
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package.parent).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def environment(*libraries: str) -> Mapping[str, str]:
    """Release of Python and of each library that is installed, by name; `libraries` beside those every step has."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *libraries):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> str:
    """Name of the processor, and of every NVIDIA device this process may use."""
    return ", ".join([_processor(), *_nvidia_devices()])


def _nvidia_devices() -> list[str]:
    if shutil.which("nvidia-smi") is None:  # the container runtime gives it to containers that were given a device
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.split("\n")[:-1] if listed.returncode == 0 else []


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
