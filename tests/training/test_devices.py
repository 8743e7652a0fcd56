"""Memory errors in our words, and a process left as it was found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evergreen.errors import OutOfMemory
from evergreen.training import devices
from evergreen.training.devices import memory_errors, repeatable


def test_memory_that_the_host_refuses_is_our_error_with_the_next_size_to_try() -> None:
    with pytest.raises(OutOfMemory, match="micro_batch_rows=512") as caught, memory_errors(batch_rows=1024):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert caught.value.exit_code == 137


@pytest.mark.parametrize(
    "message",
    [
        "Error preparing computation: Out of memory allocating 1125899906842624 bytes.",
        "Bad StatusOr access: RESOURCE_EXHAUSTED: Error allocating device buffer",
        "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 21.95G of 15.48G hbm.",
        "Error loading program: Attempting to allocate 46.33M. That was not possible. There are 13.94M free.",
    ],
    ids=["2.9 on a CPU", "before 2.9", "2.9, compiling", "2.9, allocating"],
)
def test_memory_that_an_xla_device_refuses_is_our_error_too(message: str) -> None:
    """The first was met on PyTorch/XLA 2.9; the others are told in its issues, and 2.9 drops the name of the status."""
    with pytest.raises(OutOfMemory, match="micro_batch_rows=512"), memory_errors(batch_rows=1024):
        raise RuntimeError(message)


def test_the_image_has_torch_compile_nothing_at_first_use() -> None:
    recipe = (Path(__file__).parents[2] / "docker" / "trainer" / "Dockerfile").read_text()
    (variable,) = re.findall(r"TORCH_DISABLE_NATIVE_JIT=\w+", recipe)
    asked = "from torch._native.common_utils import check_native_jit_disabled as off; print(off())"
    command = ["/usr/bin/env", variable, sys.executable, "-c", asked]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("limit", "threads", "processes", "warned"),
    [
        ("max 100000", 64, 1, ""),
        (None, 64, 1, ""),
        ("200000 100000", 2, 1, ""),
        ("200000 100000", 2, 2, "2.0 CPUs, and training.threads is 2 in each of 2 processes"),
        ("150000 100000", 2, 1, "1.5 CPUs, and training.threads is 2 in each of 1 processes"),
    ],
)
def test_more_threads_than_the_container_may_use_are_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str | None,
    threads: int,
    processes: int,
    warned: str,
) -> None:
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(devices, "CPU_QUOTA", tmp_path / "cpu.max")
    devices.warn_of_few_cpus(threads, processes=processes)
    said = [record.getMessage().split(":")[0] for record in caplog.records]
    assert said == ([f"This container may use {warned}"] if warned else [])


@pytest.mark.parametrize(
    ("flags", "precision", "warned"),
    [
        ("fma avx2", torch.bfloat16, True),
        ("fma avx2", torch.float32, False),
        ("avx512f avx512_bf16", torch.bfloat16, False),
    ],
)
def test_bfloat16_that_the_processor_does_not_multiply_in_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    flags: str,
    precision: torch.dtype,
    warned: bool,
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t: {flags}\n")
    monkeypatch.setattr(devices, "CPU_FACTS", tmp_path / "cpuinfo")
    devices.warn_of_slow_products(torch.device("cpu"), precision)
    assert ("does not multiply in bfloat16 itself" in caplog.text) is warned


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors(batch_rows=1024):
        torch.zeros(2).reshape(3)


def test_the_process_keeps_its_threads_and_random_numbers() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    with repeatable(seed=1, threads=1, device=torch.device("cpu")):
        torch.rand(10)
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == before
    assert torch.rand(1) == wanted
