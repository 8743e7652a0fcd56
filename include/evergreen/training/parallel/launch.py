"""Starts the processes of a parallel run by torchrun, and waits for what they leave."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping

import torch

from evergreen.artifacts import Model
from evergreen.errors import TemporaryError
from evergreen.lake.lake import Lake
from evergreen.settings import Rendezvous
from evergreen.training.checkpoint_folder import forget_checkpoints
from evergreen.training.devices import choose_device, num_devices, warn_of_few_cpus
from evergreen.training.interruption import interruptible
from evergreen.training.parallel.choice import num_processes, require_device
from evergreen.training.parallel.job import Job
from evergreen.training.recipe import Recipe

logger = logging.getLogger(__name__)

RESTARTS = 3
"""How often the processes are started again after one of them died, before the pod itself gives up its try."""
JOIN_SECONDS = 1800
"""How long a pod waits for the others to be scheduled."""
WORKER = "evergreen.training.parallel.worker"


def train_in_processes(job: Job, lake_options: Mapping[str, str], rendezvous: Rendezvous | None) -> Model:
    """The model that the processes of `job` trained and stored.

    Raises what they raised: the first error that starting again cannot mend, TemporaryError on SIGTERM or when
    processes died too often; the next call resumes from the last checkpoint. A model that they left stands, whatever
    came after it.
    """
    require_device(job.pipeline.training, job.expected_device)
    device = choose_device(expected=job.expected_device)
    processes = num_processes(job.pipeline.training, devices=num_devices(device), device_kind=device.type)
    warn_of_few_cpus(job.pipeline.training.threads, processes=processes)
    job.forget_results()
    if job.afresh:
        _forget_checkpoints(job, lake_options, device)
    command = torchrun(processes, rendezvous, job)
    logger.info("starting %d processes: %s", processes, job.pipeline.training.parallel.strategy)
    running = subprocess.Popen(command, env=environment(lake_options))
    try:
        with interruptible(then=running.terminate) as interruption:
            code = running.wait()
    finally:
        running.kill()
        running.wait()
    if job.has_model:
        return job.read_model()
    interruption.check()
    failure = job.read_failure()
    if failure is not None:
        raise failure
    raise TemporaryError(
        "The processes of a training",
        found=f"exit code {code} after {RESTARTS} new starts",
        wanted="all of them to run to the end",
        remedy="The next try resumes from the last checkpoint; the lines above say how they died.",
    )


def _forget_checkpoints(job: Job, lake_options: Mapping[str, str], device: torch.device) -> None:
    recipe = Recipe.of(job.pipeline, seed=job.seed, micro_batch_rows=job.micro_batch_rows, device=device.type)
    forget_checkpoints(Lake(job.lake_url, lake_options), job.training_set.digest, recipe)


def environment(lake_options: Mapping[str, str]) -> dict[str, str]:
    """Variables of the processes.

    torch 2.13 keeps one store over all new starts unless told otherwise, and processes that start again then find
    the addresses of those that died.
    """
    return os.environ | {**lake_options, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def torchrun(processes: int, rendezvous: Rendezvous | None, job: Job) -> list[str]:
    """The command that starts the processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={RESTARTS}", *_meeting(rendezvous, job.training_set.digest[:16])]
    return [*command, "-m", WORKER, str(job.write())]


def _meeting(rendezvous: Rendezvous | None, run: str) -> list[str]:
    if rendezvous is None:
        return ["--standalone"]
    return [
        f"--nnodes={rendezvous.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={rendezvous.endpoint}",
        f"--rdzv-id={run}",
        f"--rdzv-conf=is_host={int(rendezvous.index == 0)},join_timeout={JOIN_SECONDS}",
        *([f"--local-addr={rendezvous.address}"] if rendezvous.address else []),
    ]
