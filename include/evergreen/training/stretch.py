"""How a run of steps was taken. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps whose sums were taken alike; others give the same within rounding."""

    first_step: int
    """Steps done before it."""
    rows_at_once: int
    """Rows of a full batch that a process took at once."""
    processes: int
