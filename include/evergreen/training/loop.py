"""Epochs of gradient steps, with averaged weights, early stopping and a checkpoint after each.

B rows, F columns of numbers, E categorical columns, H hidden units. Randomness of an epoch comes from the seed and
the epoch's number alone, so a run resumed at any epoch draws what an uninterrupted one draws.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Training
from evergreen.training.checkpoint import Checkpoints
from evergreen.training.encoders import Encoded
from evergreen.training.interruption import Interruption
from evergreen.training.network import TabularNetwork
from evergreen.training.ranking import average_precision
from evergreen.training.state import EpochResult, TrainingState

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 100
WARM_UP_EPOCHS = 2
"""Warm-up is over by then, however few steps an epoch has."""
UNKNOWN_SHARE = 0.01
"""Share of categories shown as unknown in training, so that the unknown level's embedding is learned too."""
SCORED_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Encoded rows as whole tensors on the device."""

    values: Tensor
    """float32 [B, F]."""
    indices: Tensor
    """int64 [B, E]."""
    labels: Tensor
    """float32 [B]."""

    @classmethod
    def on(cls, device: torch.device, encoded: Encoded) -> Rows:
        """`encoded` moved to `device`."""
        parts = (encoded.numeric, encoded.categories, encoded.labels)
        values, indices, labels = (torch.tensor(part, device=device) for part in parts)
        return cls(values=values, indices=indices, labels=labels)

    def take(self, chosen: Tensor | slice) -> Rows:
        """The chosen rows, in that order."""
        return Rows(values=self.values[chosen], indices=self.indices[chosen], labels=self.labels[chosen])


def fit(
    state: TrainingState,
    train: Rows,
    validation: Rows,
    training: Training,
    *,
    checkpoints: Checkpoints,
    interruption: Interruption,
    on_progress: Callable[[EpochResult], None] | None = None,
) -> None:
    """Train `state` until it stops getting better or epochs run out; raises TemporaryError on SIGTERM."""
    started, done = time.monotonic(), 0
    while len(state.curve) < training.max_epochs and state.stale_epochs < training.patience:
        epoch_started = time.monotonic()
        loss, rows = _run_epoch(state, train, training, interruption)
        logits = score(state.average, validation, training.micro_batch_rows)
        precision = average_precision(validation.labels.cpu().numpy(), logits)
        result = EpochResult(epoch=len(state.curve) + 1, loss=loss, average_precision=precision)
        state.finish_epoch(result)
        checkpoints.save(state)
        done += 1
        _log(result, training, rows / (time.monotonic() - epoch_started), (time.monotonic() - started) / done)
        if on_progress is not None:
            on_progress(result)


def score(network: TabularNetwork, rows: Rows, rows_at_once: int | None = None) -> npt.NDArray[np.float64]:
    """float64 [B]: the network's logit for each row, without dropout."""
    size = min(rows_at_once or SCORED_AT_ONCE, SCORED_AT_ONCE)
    with torch.inference_mode():
        parts = [network(values, indices) for values, indices in _slices(rows, size)]
    return torch.cat(parts).double().cpu().numpy()


def drawn_share(labels: npt.NDArray[np.float32], negative_share: float) -> float:
    """Share of the negatives that an epoch really draws: a whole number of rows, at least one."""
    negatives = int((labels == 0).sum())
    return _num_drawn(negatives, negative_share) / negatives


def _run_epoch(state: TrainingState, train: Rows, training: Training, interruption: Interruption) -> tuple[float, int]:
    """Mean loss and number of rows of one more epoch."""
    draws = torch.Generator(train.labels.device).manual_seed(_seed(training.seed, len(state.curve)))
    order = _draw(train.labels, training.negative_share, draws)
    batches = torch.split(order, training.batch_rows)
    warm_up_steps = min(WARM_UP_STEPS, WARM_UP_EPOCHS * len(batches))
    total = torch.zeros((), device=train.labels.device)
    for chosen in batches:
        interruption.check()
        total += _accumulate(state.network, train.take(chosen), training.micro_batch_rows or chosen.numel(), draws)
        state.step(training.learning_rate * min(1.0, (state.steps + 1) / warm_up_steps))
    loss = total.item() / order.numel()
    if not math.isfinite(loss):
        raise ConfigurationError(
            f"Training loss of epoch {len(state.curve) + 1}",
            found=str(loss),
            wanted="a finite number",
            remedy="Lower training.learning_rate.",
        )
    return loss, order.numel()


def _draw(labels: Tensor, negative_share: float, draws: torch.Generator) -> Tensor:
    """int64: every positive and a fresh share of the negatives, shuffled."""
    device = labels.device
    negatives = torch.nonzero(labels == 0).squeeze(1)
    wanted = _num_drawn(negatives.numel(), negative_share)
    some = negatives[torch.randperm(negatives.numel(), generator=draws, device=device)[:wanted]]
    both = torch.cat([torch.nonzero(labels == 1).squeeze(1), some])
    return both[torch.randperm(both.numel(), generator=draws, device=device)]


def _num_drawn(negatives: int, share: float) -> int:
    return max(1, round(negatives * share))


def _accumulate(network: TabularNetwork, batch: Rows, rows_at_once: int, draws: torch.Generator) -> Tensor:
    """Summed loss of a batch, whose mean gradient is now on the parameters.

    Chance is drawn for the whole batch before it is cut, so that micro-batches see the very same dropout.
    """
    size, device = batch.labels.numel(), batch.labels.device
    kept = torch.rand(size, network.num_units, generator=draws, device=device) >= network.dropout
    known = torch.rand(batch.indices.shape, generator=draws, device=device) >= UNKNOWN_SHARE
    batch = replace(batch, indices=batch.indices * known)
    total = torch.zeros((), device=device)
    for begin in range(0, size, rows_at_once):
        piece = slice(begin, begin + rows_at_once)
        part = batch.take(piece)
        logits = network(part.values, part.indices, kept[piece])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, part.labels, reduction="sum")
        (loss / size).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _slices(rows: Rows, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(rows.values, size), torch.split(rows.indices, size), strict=True)


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def _log(result: EpochResult, training: Training, rows_per_second: float, epoch_seconds: float) -> None:
    logger.info(
        "epoch %d/%d: loss %.4f, validation AP %.4f, %d rows/s, ETA %d s",
        result.epoch,
        training.max_epochs,
        result.loss,
        result.average_precision,
        rows_per_second,
        (training.max_epochs - result.epoch) * epoch_seconds,
    )
