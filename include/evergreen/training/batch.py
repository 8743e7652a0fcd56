"""A batch with the chance of its step: which units dropout keeps, which categories are shown as unknown.

B rows, H hidden units over all layers, E categorical columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from evergreen.training.devices import lower_precision, to_device
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import Rows, Share

UNKNOWN_SHARE = 0.01
"""Share of categories shown as unknown in training, so that the unknown level's embedding is learned too."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One process's rows of a batch."""

    rows: Rows
    kept: Tensor
    """uint8 [B, H]: 1 for units that dropout keeps, else 0. Many times faster to make from bytes than bool is."""
    size: int
    """Rows of the whole batch, over all processes."""

    @classmethod
    def draw(cls, rows: Rows, network: TabularNetwork, *, size: int, share: Share, draws: torch.Generator) -> Batch:
        """`rows`, which are `share` of a batch of `size` rows, with chance.

        Chance is drawn for the whole batch before it is cut, so that micro-batches and processes see the very same
        dropout as one process that takes the batch at once.
        """
        device, piece = rows.given.device, share.piece(size)
        chance = _bytes(size, network.num_units, draws)
        kept = (chance >= torch.full_like(chance, round(256 * network.dropout))).view(torch.uint8)
        known = torch.rand((size, rows.indices.shape[1]), generator=draws, device=draws.device) >= UNKNOWN_SHARE
        kept, known = to_device(kept, device), to_device(known, device)
        return cls(rows=replace(rows, indices=rows.indices * known[piece]), kept=kept[piece], size=size)

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.rows.given.device

    def take(self, piece: slice) -> Batch:
        """Some of the rows, still of the same whole batch."""
        return replace(self, rows=self.rows.take(piece), kept=self.kept[piece])

    def cut(self, rows_at_once: int) -> Iterator[Batch]:
        """Micro-batches."""
        return (self.take(slice(at, at + rows_at_once)) for at in range(0, self.rows.num_rows, rows_at_once))

    def loss(self, network: nn.Module, *, precision: torch.dtype) -> Tensor:
        """Binary cross-entropy summed over the rows; matrix products run in `precision`."""
        with lower_precision(self.device, precision):
            logits = network(self.rows.values, self.rows.indices, self.kept)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), self.rows.given, reduction="sum")


def _bytes(rows: int, columns: int, draws: torch.Generator) -> Tensor:
    """uint8 [rows, columns], each value as likely: eight of them for the price of one 64-bit number."""
    words = torch.empty(-(-rows * columns // 8), dtype=torch.int64, device=draws.device)
    words.random_(-(2**63), None, generator=draws)
    return words.view(torch.uint8)[: rows * columns].view(rows, columns)
