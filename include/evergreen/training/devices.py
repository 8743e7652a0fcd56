"""Where the arithmetic runs, made repeatable, and its memory errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evergreen.errors import OutOfMemory

CPU_ALLOCATION_FAILED = ("can't allocate memory", "not enough memory")


def choose_device() -> torch.device:
    """The CUDA device when the pod has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def repeatable(*, seed: int, threads: int, device: torch.device) -> Iterator[None]:
    """Inside, the same seed gives the same bits on one device; the process's own settings return afterwards."""
    before = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this set
    try:
        torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` imports torch's compiler: 5 s
        torch.set_num_threads(threads)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.set_num_threads(before[1])


@contextmanager
def memory_errors(*, batch_rows: int) -> Iterator[None]:
    """Inside, running out of memory on the device or the host raises OutOfMemory."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(str(error), batch_rows) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in CPU_ALLOCATION_FAILED):
            raise _out_of_memory(str(error), batch_rows) from error
        raise


def _out_of_memory(message: str, batch_rows: int) -> OutOfMemory:
    return OutOfMemory(
        "Memory for training",
        found=message.splitlines()[0] if message else "an allocation refused",
        wanted=f"room for {batch_rows} rows at once",
        remedy=f"Try again with micro_batch_rows={max(1, batch_rows // 2)}, or a larger profile.",
        details=message,
    )
