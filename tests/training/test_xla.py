"""The loop on an XLA device (a TPU, or PyTorch/XLA's own CPU device) beside the CPU, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("on_xla.py")


@pytest.fixture(scope="module")
def xla_python() -> str:
    """The Python of an environment with xla.txt."""
    python = PROJECT / ".venv-xla" / "bin" / "python"
    if not python.exists():
        pytest.skip("no .venv-xla with PyTorch/XLA here, which wants a torch of its own: `make xla` makes it")
    return str(python)


def test_an_xla_device_ends_at_the_weights_of_the_cpu(
    xla_python: str, make_rows: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    make_rows(600).write_parquet(tmp_path / "rows.parquet")
    environment = {"PJRT_DEVICE": "CPU", **os.environ, "PYTHONPATH": str(PROJECT / "include")}
    command = [xla_python, str(PROGRAM), str(tmp_path / "rows.parquet")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["device"] == "xla"
    assert min(said["learned"].values()) > 1e-2
    assert max(said["apart"].values()) < 1e-5
    assert "wanted room for 64 rows at once" in said["too large"]
