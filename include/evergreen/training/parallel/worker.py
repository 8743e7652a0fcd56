"""One process of a parallel run: `python -m evergreen.training.parallel.worker JOB`, started by torchrun."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

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
    """The exit code: 0 also after an error that a new start here cannot mend, so that torchrun makes none."""
    job = Job.model_validate_json(path.read_text())
    if job.failed_for_good:
        return 0
    try:
        device = choose_device(expected=job.expected_device, local_rank=dist.get_node_local_rank(fallback_rank=0))
        with _team(device) as team:
            _log_to_stdout(team)
            lake = Lake(job.lake_url, Settings.from_environment().lake_options)
            model = train_together(job, lake, team=team, device=device)
            if team.local_rank == 0:
                job.write_model(model)
    except EvergreenError as error:
        job.write_failure(error)
        return 0 if job.failed_for_good else error.exit_code
    return 0


@contextmanager
def _team(device: torch.device) -> Iterator[Team]:
    """This process among those torchrun started, able to exchange tensors on the device and objects on the CPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    try:
        local_rank = dist.get_node_local_rank(fallback_rank=0)
        yield Team(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=local_rank)
    finally:
        dist.destroy_process_group()


def _log_to_stdout(team: Team) -> None:
    """The leading process says everything, the others only what the leading one cannot."""
    level = logging.INFO if team.leads else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
