"""The strategy that the spec names."""

from __future__ import annotations

import torch

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Training
from evergreen.training.devices import DTYPES
from evergreen.training.network import TabularNetwork
from evergreen.training.parallel.shares import DataParallel, Sharded
from evergreen.training.parallel.stages import PipelineParallel
from evergreen.training.parallel.tensor import TensorParallel
from evergreen.training.strategy import Strategy
from evergreen.training.team import Team


def choose_strategy(network: TabularNetwork, training: Training, team: Team, device: torch.device) -> Strategy:
    """The strategy of `training.parallel`, which takes `network` over: its parameters may be replaced."""
    precision = DTYPES[training.precision]
    match training.parallel.strategy:
        case "data":
            return DataParallel(network, team=team, precision=precision)
        case "sharded":
            return Sharded(network, team=team, device=device, precision=precision)
        case "tensor":
            return TensorParallel(network, team=team, device=device, precision=precision)
        case "pipeline":
            return PipelineParallel(network, team=team, training=training, device=device)
        case "none":
            raise AssertionError("a run in one process needs no team")


def require_device(training: Training, expected: str | None) -> None:
    """Nothing, when devices of the kind `expected` can share a training; ConfigurationError otherwise.

    Asked before a device is opened: the process that opens a TPU has it alone.
    """
    if expected == "xla":
        raise ConfigurationError(
            "training.parallel.strategy",
            found=f"{training.parallel.strategy} on an xla device",
            wanted="none there, or a profile with cuda devices or CPUs: an xla device trains in one process",
            remedy="Leave training.parallel out; of a host's chips one is used. Or choose another training.profile.",
        )


def require_rows(num_rows: int, team: Team) -> None:
    """Nothing, when an epoch has a row for every process; ConfigurationError otherwise."""
    if num_rows < team.size:
        raise ConfigurationError(
            "training.parallel.processes",
            found=f"{team.size} processes for {num_rows} rows",
            wanted="at least as many rows in an epoch as processes",
            remedy="Lower training.parallel.processes, or lengthen training.window_days.",
        )


def num_processes(training: Training, *, devices: int, device_kind: str) -> int:
    """Processes of this machine: one a device; ConfigurationError when the spec names another number.

    A CPU is shared by as many processes as the spec names.
    """
    wanted = training.parallel.processes or devices
    if device_kind != "cpu" and wanted != devices:
        raise ConfigurationError(
            "training.parallel.processes",
            found=f"{wanted} processes for {devices} {device_kind} devices",
            wanted="one process for each device",
            remedy=f"Leave processes out, set it to {devices}, or choose a profile with {wanted} devices.",
        )
    return wanted
