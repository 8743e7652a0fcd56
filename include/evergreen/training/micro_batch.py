"""How many rows a process has on its device at once, before and after memory ran out."""

from __future__ import annotations

from evergreen.pipeline import Training

MICRO_BATCHES_A_STAGE = 4
"""With m micro-batches and s stages, (s - 1) / (m + s - 1) of the time nothing is there to do: a fifth."""


def rows_at_once(training: Training, *, processes: int = 1) -> int:
    """Rows of a full batch that each of `processes` takes at once: its part, or less where the spec says so."""
    part = -(-training.batch_rows // _num_parts(training, processes))
    return min(training.micro_batch_rows or part, part)


def halved_rows(training: Training, halvings: int, *, processes: int = 1) -> int:
    """The same after memory ran out `halvings` times; at least one."""
    return max(1, rows_at_once(training, processes=processes) >> halvings)


def _num_parts(training: Training, processes: int) -> int:
    """Into how many parts a batch is cut even where the spec names no micro-batch."""
    match training.parallel.strategy:
        case "data" | "sharded":
            return processes
        case "pipeline":
            return MICRO_BATCHES_A_STAGE * processes
        case "none" | "tensor":
            return 1
