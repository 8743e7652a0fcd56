"""One process of a parallel run: `python -m evergreen.training.parallel.worker JOB`, started by torchrun."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

from evergreen.errors import EvergreenError
from evergreen.lake.lake import Lake
from evergreen.settings import Settings
from evergreen.training.devices import choose_device
from evergreen.training.parallel.job import Job
from evergreen.training.team import Team
from evergreen.training.train import train_together

LONGEST_WAIT = timedelta(hours=6)
"""For the process of a machine that encodes the rows while the others wait."""


def main(path: Path) -> int:
    """The exit code: that of the error that ended this process, so that torchrun ends the others and starts all anew.

    A start after an error that none can mend ends with 0 everywhere, so that torchrun makes no more of them.
    """
    job = Job.model_validate_json(path.read_text())
    try:
        device = choose_device(expected=job.expected_device, local_rank=dist.get_node_local_rank(fallback_rank=0))
        with _team(device) as team:
            _log_to_stdout(team)
            if _failed_for_good(job, team):
                return 0
            lake = Lake(job.lake_url, Settings.from_environment().lake_options)
            model = train_together(job, lake, team=team, device=device)
            if team.local_rank == 0:
                job.write_model(model)
    except EvergreenError as error:
        job.write_failure(error)
        return error.exit_code
    return 0


def run(path: Path) -> NoReturn:
    """Ends this process with the exit code of `main`.

    After an error it ends at once: on its ordinary way out, NCCL would wait for processes that wait for this one
    (NVIDIA/nccl issue 1013).
    """
    try:
        code = main(path)
    except Exception:
        traceback.print_exc()
        code = 1
    if code == 0:
        sys.exit(0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failed_for_good(job: Job, team: Team) -> bool:
    """Whether an earlier start failed for good on some machine; the reason now lies on every one of them."""
    failures = team.gather(job.read_failure() if job.failed_for_good else None)
    for failure in failures:
        if failure is not None and team.local_rank == 0:
            job.write_failure(failure)
    return any(failures)


@contextmanager
def _team(device: torch.device) -> Iterator[Team]:
    """This process among those torchrun started, able to exchange tensors on the device and objects on the CPU.

    After an error the group is left as it is: to destroy it, NCCL waits for all of its processes
    (pytorch/torchtitan pull 1342).
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    yield Team(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=dist.get_node_local_rank(fallback_rank=0),
    )
    dist.destroy_process_group()


def _log_to_stdout(team: Team) -> None:
    """The leading process says everything, the others only what the leading one cannot."""
    level = logging.INFO if team.leads else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
