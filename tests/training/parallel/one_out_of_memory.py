"""Stands for the worker, where one of two processes runs out of memory on its device while the other waits for it.

On CUDA an operation waits for a process that is gone, and so does a process on its way out; gloo would notice.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from pathlib import Path

import torch.distributed as dist

from evergreen.artifacts import Model
from evergreen.errors import OutOfMemory
from evergreen.training.parallel import worker


def wait_for_the_other(*_: object) -> None:
    time.sleep(float(os.environ["NCCL_WAITS"]))


def train_together(*_: object, **__: object) -> Model:
    dist.barrier()
    if dist.get_rank() == 1:
        dist.destroy_process_group = wait_for_the_other
        atexit.register(wait_for_the_other)
        raise OutOfMemory("Memory", found="none", wanted="some", remedy="Halve.")
    wait_for_the_other()
    raise RuntimeError("waited too long")


if __name__ == "__main__":
    worker.train_together = train_together
    worker.run(Path(sys.argv[1]))
