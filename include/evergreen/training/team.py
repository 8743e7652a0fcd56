"""The processes that train one model together; most often one alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process's place among `size` that run the same program in step."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Place among the processes of this machine."""

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, exports and writes."""
        return self.rank == 0

    def highest(self, number: int) -> int:
        """The highest of the numbers that the processes name here."""
        return number if self.size == 1 else max(self.gather(number))

    def gather(self, value: Any) -> list[Any]:
        """What every process named here, in the order of their ranks."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def told(self, value: Any) -> Any:
        """What the leading process named here."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


ALONE = Team()
