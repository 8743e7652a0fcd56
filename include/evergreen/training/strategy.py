"""How the processes of a run share its arithmetic: the one thing that parallel strategies differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from evergreen.training.batch import Batch
from evergreen.training.rows import WHOLE, Share
from evergreen.training.team import ALONE, Team


class Strategy(Protocol):
    """Gradients of whole batches on the parameters that this process holds."""

    team: Team
    share: Share
    """This process's rows of each batch."""

    @property
    def network(self) -> nn.Module:
        """The parameters this process holds, by their names in the whole network."""

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over the rows computed here; the mean gradient of the whole batch is now on the parameters."""

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all processes, whole and on the CPU, in the leading process; nothing elsewhere.

        `tensors` are this process's parts, by the names of its parameters.
        """


class Alone:
    """All of it in one process."""

    def __init__(self, network: nn.Module, *, precision: torch.dtype) -> None:
        self.team = ALONE
        self.share = WHOLE
        self.network = network
        self.precision = precision

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over the batch; its mean gradient is now on the parameters."""
        total = torch.zeros((), device=batch.device)
        for part in batch.cut(rows_at_once):
            loss = part.loss(self.network, precision=self.precision)
            (loss / batch.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` themselves."""
        return dict(tensors)
