"""Every process holds a part of each wide tensor, and computes its part of each product.

A layer cut by its units is followed by one cut by its inputs, so that activations meet every other layer. Embedding
tables are cut by their width, the maps of piecewise-linear encoded numbers by their bins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication

from evergreen.training.batch import Batch
from evergreen.training.parallel.gathering import gathered
from evergreen.training.rows import WHOLE
from evergreen.training.team import Team

LAYER = re.compile(r"^layers\.(\d+)\.(weight|bias)$")
TABLE = re.compile(r"^(categories\.\d+|numbers\.bins)$")


class TensorParallel:
    """The network with its parameters as DTensors; torch finds out what each operation must exchange."""

    def __init__(self, network: nn.Module, *, team: Team, device: torch.device, precision: torch.dtype) -> None:
        self.team = team
        self.share = WHOLE
        self.precision = precision
        self.network = network
        mesh = init_device_mesh(device.type, (team.size,))
        for name, parameter in list(network.named_parameters()):
            _distribute(network, name, parameter, mesh)

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over the batch in the leading process; this process's part of the gradient is now in place."""
        total = torch.zeros((), device=batch.device)
        with implicit_replication():  # rows, chance and constants are whole in every process
            for part in batch.cut(rows_at_once):
                loss = part.loss(self.network, precision=self.precision)
                (loss / batch.size).backward()  # type: ignore[no-untyped-call]
                total += loss.detach().full_tensor()  # type: ignore[attr-defined]
        for parameter in self.network.parameters():
            parameter.grad = parameter.grad.redistribute(placements=parameter.placements)  # type: ignore
        return total if self.team.leads else torch.zeros_like(total)

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors put together, in the leading process."""
        return gathered(tensors, self.team)


def placement(name: str) -> Placement:
    """How the parameter `name` is cut: along one of its dimensions, or not at all."""
    if found := LAYER.match(name):
        by_units, weight = int(found[1]) % 2 == 0, found[2] == "weight"
        if by_units:
            return Shard(0)
        return Shard(1) if weight else Replicate()
    return Shard(1) if TABLE.match(name) else Replicate()


def _distribute(network: nn.Module, name: str, parameter: nn.Parameter, mesh: DeviceMesh) -> None:
    owner, _, leaf = name.rpartition(".")
    cut = nn.Parameter(distribute_tensor(parameter.detach(), mesh, [placement(name)]))
    network.get_submodule(owner).register_parameter(leaf, cut)
