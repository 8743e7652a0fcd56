"""Memory errors in our words, and a process left as it was found."""

from __future__ import annotations

import pytest
import torch

from evergreen.errors import OutOfMemory
from evergreen.training.devices import memory_errors, repeatable


def test_memory_that_the_host_refuses_is_our_error_with_the_next_size_to_try() -> None:
    with pytest.raises(OutOfMemory, match="micro_batch_rows=512") as caught, memory_errors(batch_rows=1024):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert caught.value.exit_code == 137


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
