"""Encoded rows as an epoch takes them: whole tensors, batch by batch.

B rows, F columns of numbers, E categorical columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evergreen.training.devices import to_device
from evergreen.training.encoders import Encoded


@dataclass(frozen=True, kw_only=True)
class Share:
    """The run of each batch's rows that one of `of` processes computes; the shares of all make up the batch."""

    index: int = 0
    of: int = 1

    def piece(self, size: int) -> slice:
        """Where this share lies among the `size` rows of a batch."""
        return slice(self.index * size // self.of, (self.index + 1) * size // self.of)


WHOLE = Share()


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The rows that one epoch drew, in the order it drew them."""

    num_rows: int
    """Over all shares."""
    batch_rows: int
    read: Callable[[int], Iterator[Rows]]
    """This share of every batch, from the batch of the given number on."""

    @property
    def num_batches(self) -> int:
        """Batches, of which the last may be smaller."""
        return -(-self.num_rows // self.batch_rows)

    def size(self, number: int) -> int:
        """Rows of the whole batch of this number, from 0."""
        return min(self.batch_rows, self.num_rows - number * self.batch_rows)


class Source(Protocol):
    """Labelled rows that epochs are drawn from, wherever they lie."""

    @property
    def num_rows(self) -> int:
        """B."""

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """[B], 0 or 1."""

    def draw(self, *, negative_share: float, batch_rows: int, share: Share, draws: torch.Generator) -> Epoch:
        """Every positive and a fresh share of the negatives, each row once, shuffled."""

    def slices(self, rows_at_once: int) -> Iterator[Rows]:
        """All rows in order, at most `rows_at_once` of them at a time, on the device."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Encoded rows as whole tensors on one device: a source that fits in memory, or a batch."""

    values: Tensor
    """float32 [B, F]."""
    indices: Tensor
    """int64 [B, E]."""
    given: Tensor
    """float32 [B]: the labels."""

    @classmethod
    def on(cls, device: torch.device, encoded: Encoded) -> Rows:
        """`encoded` moved to `device`."""
        parts = (encoded.numeric, encoded.categories, encoded.labels)
        values, indices, labels = (to_device(torch.tensor(part), device) for part in parts)
        return cls(values=values, indices=indices, given=labels)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """[B], 0 or 1, on the host."""
        labels: npt.NDArray[np.float32] = self.given.cpu().numpy()
        return labels

    @property
    def num_rows(self) -> int:
        """B."""
        return self.given.numel()

    def take(self, chosen: Tensor | slice) -> Rows:
        """The chosen rows, in that order."""
        return Rows(values=self.values[chosen], indices=self.indices[chosen], given=self.given[chosen])

    def to(self, device: torch.device) -> Rows:
        """These rows on `device`."""
        values, indices, labels = (to_device(part, device) for part in (self.values, self.indices, self.given))
        return Rows(values=values, indices=indices, given=labels)

    def draw(self, *, negative_share: float, batch_rows: int, share: Share, draws: torch.Generator) -> Epoch:
        """Every positive and a fresh share of the negatives, each row once, shuffled."""
        order = to_device(draw_rows(self.given.to(draws.device), negative_share, draws), self.given.device)
        batches = torch.split(order, batch_rows)
        return Epoch(
            num_rows=order.numel(),
            batch_rows=batch_rows,
            read=lambda first: (self.take(batch[share.piece(batch.numel())]) for batch in batches[first:]),
        )

    def slices(self, rows_at_once: int) -> Iterator[Rows]:
        """All rows in order, at most `rows_at_once` of them at a time."""
        return (self.take(slice(at, at + rows_at_once)) for at in range(0, self.num_rows, rows_at_once))


def draw_rows(labels: Tensor, negative_share: float, draws: torch.Generator) -> Tensor:
    """int64: positions of every positive and of a fresh share of the negatives, shuffled."""
    device = labels.device
    negatives = torch.nonzero(labels == 0).squeeze(1)
    wanted = num_drawn(negatives.numel(), negative_share)
    some = negatives[torch.randperm(negatives.numel(), generator=draws, device=device)[:wanted]]
    both = torch.cat([torch.nonzero(labels == 1).squeeze(1), some])
    return both[torch.randperm(both.numel(), generator=draws, device=device)]


def num_drawn(negatives: int, share: float) -> int:
    """Negatives that an epoch draws of so many: a whole number, at least one where there is one."""
    return min(negatives, max(1, round(negatives * share)))


def drawn_share(negatives: int, negative_share: float) -> float:
    """Share of the negatives that an epoch really draws."""
    return num_drawn(negatives, negative_share) / negatives
