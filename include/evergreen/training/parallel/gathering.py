"""Tensors that processes share, put together."""

from __future__ import annotations

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from evergreen.training.team import Team


def gathered(tensors: Mapping[str, Tensor], team: Team) -> dict[str, Tensor]:
    """Every tensor whole on the CPU in the leading process, one at a time over the wire; nothing elsewhere."""
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if team.leads:
            found[name] = whole.cpu()
    return found


def collected(tensors: Mapping[str, Tensor], team: Team) -> dict[str, Tensor]:
    """The tensors of every process, each of which has other names, on the CPU in the leading process."""
    mine = {name: tensor.cpu() for name, tensor in tensors.items()}
    parts: list[dict[str, Tensor]] | None = [{} for _ in range(team.size)] if team.leads else None
    dist.gather_object(mine, parts, dst=0)
    return {name: tensor for part in parts or () for name, tensor in part.items()}
