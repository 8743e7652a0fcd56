"""Where the arithmetic runs, made repeatable, and its memory errors in our words."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from evergreen.errors import ConfigurationError, OutOfMemory

logger = logging.getLogger(__name__)
ALLOCATION_FAILED = (
    "can't allocate memory",
    "not enough memory",
    "RESOURCE_EXHAUSTED",
    "Out of memory allocating",
    "Ran out of memory in memory space",
    "That was not possible. There are",
)
"""What a plain RuntimeError says of the host, by torch, then of an XLA device (pytorch/xla issues 7827 and 9524, and
PyTorch/XLA 2.9 on a CPU)."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's own, by cgroup v2: microseconds of CPU time per microseconds, or `max`."""
CPU_FACTS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Of a processor, x86 or ARM, with products in bfloat16."""
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
"""Precision of the spec -> what matrix products run in."""


def choose_device(*, expected: str | None = None, local_rank: int = 0) -> torch.device:
    """This process's device: CUDA or XLA where the pod has one, else the CPU.

    `expected` is the kind of device that the pod's profile asked for; ConfigurationError when it is not there.
    """
    found = _kind_found(expected)
    if expected not in (None, found):
        raise ConfigurationError(
            f"Device of the pod's resource profile ({expected})",
            found=f"no {expected} device in the pod, only {found}",
            wanted=f"a visible {expected} device, as the profile's limits say",
            remedy="Choose a profile without one, or see that the node's driver, its device plugin and the image's "
            "torch fit together.",
        )
    if found == "xla":
        import torch_xla

        return torch_xla.device()  # type: ignore[no-any-return]
    return torch.device("cuda", local_rank) if found == "cuda" else torch.device("cpu")


def num_devices(device: torch.device) -> int:
    """Devices of this kind that this machine shows; a machine has one CPU."""
    return torch.cuda.device_count() if device.type == "cuda" else 1


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, by way of pinned memory where that lets the copy overlap with work."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def chance_device(device: torch.device) -> torch.device:
    """Where random numbers for `device` are drawn: XLA has no generators of its own."""
    return torch.device("cpu") if device.type == "xla" else device


def finish_step(device: torch.device) -> None:
    """Run what was recorded of a step: XLA records operations, the others run them at once."""
    if device.type == "xla":
        import torch_xla

        torch_xla.sync()


def lower_precision(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """Inside, matrix products run in `precision`."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)


def _kind_found(expected: str | None) -> str:
    """`xla` only where it is asked for: its library may lie in an image that runs without one."""
    if expected == "xla" and find_spec("torch_xla"):
        return "xla"
    return "cuda" if torch.cuda.is_available() else "cpu"


def multiplies_in(precision: torch.dtype, device: torch.device) -> bool:
    """Whether the chip itself multiplies matrices in `precision`."""
    if precision != torch.bfloat16 or device.type == "xla":
        return True
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = CPU_FACTS.read_text().split() if CPU_FACTS.exists() else []
    return any(flag in flags for flag in BFLOAT16_FLAGS)


def warn_of_slow_products(device: torch.device, precision: torch.dtype) -> None:
    """Says so where the spec asks for a precision that the chip has no instructions for."""
    if not multiplies_in(precision, device):
        logger.warning(
            "This pod's %s does not multiply in bfloat16 itself, which then costs time and gains none: leave "
            "training.precision out, or choose a profile with a newer one",
            "NVIDIA device" if device.type == "cuda" else "processor",
        )


def warn_of_few_cpus(threads: int, *, processes: int = 1) -> None:
    """Says so where the container may use fewer CPUs than its processes have threads, which then wait for one another.

    The spec's number stands all the same: it decides how sums are split, and with that the model's bits.
    """
    quota, _, period = CPU_QUOTA.read_text().partition(" ") if CPU_QUOTA.exists() else ("max", "", "")
    if quota == "max" or int(quota) >= threads * processes * int(period):
        return
    logger.warning(
        "This container may use %.1f CPUs, and training.threads is %d in each of %d processes: lower it to what the "
        "container has, or raise limits.cpu of its resource profile",
        int(quota) / int(period),
        threads,
        processes,
    )


@contextmanager
def repeatable(*, seed: int, threads: int, device: torch.device, tf32: bool = False) -> Iterator[None]:
    """Inside, the same seed gives the same bits on one device; the process's own settings return afterwards."""
    before = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    products = torch.backends.cuda.matmul.allow_tf32
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this set
    try:
        torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` imports torch's compiler: 5 s
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.set_num_threads(before[1])
        torch.backends.cuda.matmul.allow_tf32 = products


@contextmanager
def memory_errors(*, batch_rows: int) -> Iterator[None]:
    """Inside, running out of memory on the device or the host raises OutOfMemory."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(str(error), batch_rows) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in ALLOCATION_FAILED):
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
