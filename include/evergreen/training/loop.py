"""Epochs of gradient steps, with averaged weights, early stopping and checkpoints.

Randomness of an epoch comes from the seed and the epoch's number alone, so a run resumed at any batch draws what an
uninterrupted one draws.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Training
from evergreen.training.batch import Batch
from evergreen.training.checkpoint import Checkpoints
from evergreen.training.devices import chance_device, finish_step
from evergreen.training.interruption import Interruption
from evergreen.training.network import TabularNetwork
from evergreen.training.ranking import average_precision
from evergreen.training.rows import Epoch, Source
from evergreen.training.state import EpochResult, Progress, TrainingState
from evergreen.training.strategy import Strategy

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 100
WARM_UP_EPOCHS = 2
"""Warm-up is over by then, however few steps an epoch has."""
SCORED_AT_ONCE = 8192
CHECKPOINT_SECONDS = 300.0
"""Most work that an epoch longer than this loses to a sudden end."""
BATCHES_BETWEEN_SIGNALS = 8
"""Processes ask each other only so often whether one was told to stop: asking costs a round trip."""


class Signal(IntEnum):
    """What a process asks of all between two batches; the highest counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One training run: what it changes, what it learns from, and whom it obeys and tells."""

    state: TrainingState
    network: TabularNetwork
    """The whole network for chance and for scoring; its weights are not those trained.

    Only the leading process scores: elsewhere it may lie on the meta device, without weights.
    """
    device: torch.device
    strategy: Strategy
    train: Source
    validation: Source
    training: Training
    checkpoints: Checkpoints
    interruption: Interruption
    on_progress: Callable[[EpochResult], None] | None = None

    def run(self) -> None:
        """Train until it stops getting better or epochs run out; raises TemporaryError on SIGTERM."""
        state, training = self.state, self.training
        started, done = time.monotonic(), 0
        while len(state.curve) < training.max_epochs and state.stale_epochs < training.patience:
            epoch_started = time.monotonic()
            loss, rows = self._run_epoch()
            result = EpochResult(epoch=len(state.curve) + 1, loss=loss, average_precision=self._validate())
            state.finish_epoch(result)
            self.checkpoints.save(state)
            done += 1
            if self.strategy.team.leads:
                _log(result, training, rows / (time.monotonic() - epoch_started), (time.monotonic() - started) / done)
            if self.on_progress is not None:
                self.on_progress(result)

    def _validate(self) -> float:
        """Average precision of the averaged weights on the validation part, known to every process."""
        weights = self.strategy.whole(self.state.average)
        precision = 0.0
        if self.strategy.team.leads:
            self.network.load_state_dict(weights, strict=False)
            logits = score(self.network, self.validation, self.training.micro_batch_rows)
            precision = average_precision(self.validation.labels, logits)
        return float(self.strategy.team.told(precision))

    def _run_epoch(self) -> tuple[float, int]:
        """Mean loss and number of rows of one more epoch, or of what was left of it."""
        draws = torch.Generator(chance_device(self.device)).manual_seed(
            _seed(self.training.seed, len(self.state.curve))
        )
        epoch = self.train.draw(
            negative_share=self.training.negative_share,
            batch_rows=self.training.batch_rows,
            share=self.strategy.share,
            draws=draws,
        )
        first = self._begin(draws)
        warm_up_steps = min(WARM_UP_STEPS, WARM_UP_EPOCHS * epoch.num_batches)
        saved = time.monotonic()
        for number, rows in enumerate(epoch.read(first), start=first):
            saved = self._heed(number, saved, draws)
            size = epoch.size(number)
            batch = Batch.draw(rows, self.network, size=size, share=self.strategy.share, draws=draws)
            self.state.progress.loss += self.strategy.accumulate(batch, self.training.micro_batch_rows or size)
            self.state.step(self.training.learning_rate * min(1.0, (self.state.steps + 1) / warm_up_steps))
            finish_step(self.device)
            self.state.progress.batches += 1
        return self._mean_loss(epoch), epoch.num_rows - first * epoch.batch_rows

    def _begin(self, draws: torch.Generator) -> int:
        """The first batch of the epoch that is still to be done; `draws` then stands where that batch begins."""
        progress = self.state.progress
        if progress.batches:
            draws.set_state(progress.chance.cpu())
        loss = progress.loss.to(self.device)
        self.state.progress = Progress(batches=progress.batches, loss=loss)
        return progress.batches

    def _heed(self, number: int, saved: float, draws: torch.Generator) -> float:
        """When was saved last, now that every process's wish was heard; TemporaryError when one wants to stop."""
        if self.strategy.team.size > 1 and number % BATCHES_BETWEEN_SIGNALS:
            return saved
        late = time.monotonic() - saved > CHECKPOINT_SECONDS
        wish = Signal.STOP if self.interruption.asked else Signal.SAVE if late else Signal.GO_ON
        agreed = self.strategy.team.highest(wish)
        if agreed >= Signal.SAVE and self.state.progress.batches:
            self.state.progress.chance = draws.get_state()
            self.checkpoints.save(self.state)
            saved = time.monotonic()
        if agreed == Signal.STOP:
            self.interruption.stop()
        return saved

    def _mean_loss(self, epoch: Epoch) -> float:
        total = sum(self.strategy.team.gather(self.state.progress.loss.item()))
        loss = float(total) / epoch.num_rows
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"Training loss of epoch {len(self.state.curve) + 1}",
                found=str(loss),
                wanted="a finite number",
                remedy="Lower training.learning_rate.",
            )
        return loss


def score(network: TabularNetwork, rows: Source, rows_at_once: int | None = None) -> npt.NDArray[np.float64]:
    """float64 [B]: the network's logit for each row, without dropout."""
    size = min(rows_at_once or SCORED_AT_ONCE, SCORED_AT_ONCE)
    with torch.no_grad():  # XLA cannot slice tensors in inference mode
        logits = torch.empty(rows.num_rows, device=next(network.buffers()).device)
        at = 0
        for some in rows.slices(size):
            logits[at : at + some.num_rows] = network(some.values, some.indices)
            at += some.num_rows
    return logits.double().cpu().numpy()


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
