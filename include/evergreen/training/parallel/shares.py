"""Each process computes its share of every batch; the gradients' mean over the processes is that of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from evergreen.training.batch import Batch
from evergreen.training.parallel.gathering import gathered
from evergreen.training.rows import Share
from evergreen.training.team import Team


class DataParallel:
    """Every process holds the whole network (torch's DistributedDataParallel)."""

    def __init__(self, network: nn.Module, *, team: Team, precision: torch.dtype) -> None:
        self.team = team
        self.share = Share(index=team.rank, of=team.size)
        self.network = network
        self.module = DistributedDataParallel(network, forward_sync_buffers=False)
        self.precision = precision

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over this share; the mean gradient of the whole batch is now on the parameters."""
        total = torch.zeros((), device=batch.device)
        parts = equal_cuts(batch, self.share, rows_at_once)
        for number, part in enumerate(parts, start=1):
            with self._exchange(now=number == len(parts)):
                loss = part.loss(self.module, precision=self.precision)
                (loss * self.share.of / batch.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` themselves, in the leading process."""
        return dict(tensors) if self.team.leads else {}

    def _exchange(self, *, now: bool) -> AbstractContextManager[None]:
        return nullcontext() if now else self.module.no_sync()


class Sharded:
    """Every process keeps its share of the weights, gradients and running means alone (torch's `fully_shard`)."""

    def __init__(self, network: nn.Module, *, team: Team, device: torch.device, precision: torch.dtype) -> None:
        self.team = team
        self.share = Share(index=team.rank, of=team.size)
        self.precision = precision
        mesh = init_device_mesh(device.type, (team.size,))
        # fully_shard warns of outputs that are views, and the network's are.
        network.register_forward_hook(lambda _module, _inputs, logits: logits.clone())
        for module in network.modules():
            if isinstance(module, nn.Linear):
                fully_shard(module, mesh=mesh)
        self.module: FSDPModule = fully_shard(network, mesh=mesh)
        self.network = network

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over this share; this process's part of the batch's mean gradient is now on the parameters."""
        total = torch.zeros((), device=batch.device)
        parts = equal_cuts(batch, self.share, rows_at_once)
        for number, part in enumerate(parts, start=1):
            self.module.set_requires_gradient_sync(number == len(parts))
            loss = part.loss(self.network, precision=self.precision)
            (loss * self.share.of / batch.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors put together, in the leading process."""
        return gathered(tensors, self.team)


def equal_cuts(batch: Batch, share: Share, rows_at_once: int) -> list[Batch]:
    """Micro-batches of a share, as many as every other process has: the last ones may be empty.

    All processes meet in every one of them, so none may have fewer.
    """
    largest = -(-batch.size // share.of)
    return [batch.take(slice(at, at + rows_at_once)) for at in range(0, largest, rows_at_once)]
