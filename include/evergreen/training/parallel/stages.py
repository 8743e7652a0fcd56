"""Every process holds some of the layers, in order; micro-batches follow each other through them (GPipe).

B rows of a micro-batch, H hidden units over the layers of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Training
from evergreen.training.batch import Batch
from evergreen.training.devices import lower_precision
from evergreen.training.micro_batch import MICRO_BATCHES_A_STAGE, rows_at_once
from evergreen.training.network import TabularNetwork, dropped, joined
from evergreen.training.parallel.gathering import collected
from evergreen.training.rows import WHOLE
from evergreen.training.team import Team


class Stage(nn.Module):
    """Some neighbouring parts of a network, under the names they have there."""

    def __init__(self, network: TabularNetwork, parts: range, *, precision: torch.dtype) -> None:
        super().__init__()
        layers = list(network.layers)
        self.first, self.last = parts.start == 0, parts.stop == len(layers) + 2
        if self.first:
            self.numbers, self.categories = network.numbers, network.categories
        held = range(max(parts.start - 1, 0), min(parts.stop - 1, len(layers)))
        self.layers = nn.ModuleDict({str(number): layers[number] for number in held})
        if self.last:
            self.output = network.output
        widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        self.units = slice(sum(widths[: held.start]), sum(widths[: held.stop]))
        """Which of the network's hidden units are here."""
        self.widths = widths[held.start : held.stop]
        self.dropout = network.dropout
        self.precision = precision

    def forward(self, x: Tensor, indices: Tensor | None = None, *, kept: Tensor) -> Tensor:
        """Numbers [B, F] and indices [B, E], or what the stage before gave, to activations or logits [B]."""
        with lower_precision(x.device, self.precision):
            if indices is not None:
                x = joined(self.numbers, self.categories, x, indices).contiguous()
            for layer, units in zip(self.layers.values(), torch.split(kept, self.widths, 1), strict=True):
                x = dropped(torch.relu(layer(x)), units, self.dropout)
            return self.output(x).squeeze(1).float() if self.last else x


class PipelineParallel:
    """One stage of the network in each process (torch.distributed.pipelining)."""

    def __init__(self, network: TabularNetwork, *, team: Team, training: Training, device: torch.device) -> None:
        self.team = team
        self.share = WHOLE
        self.network = Stage(network, _parts(network, team), precision=_precision(training))
        stage = PipelineStage(self.network, team.rank, team.size, device)
        rows = training.micro_batch_rows or rows_at_once(training, processes=team.size)
        micro_batches = min(-(-training.batch_rows // rows), MICRO_BATCHES_A_STAGE * team.size)
        self.rows = rows * micro_batches
        """Rows of a pass, whose activations a stage holds together: GPipe turns back after the last micro-batch alone.

        What is left of a batch is padded to so many, with rows that weigh nothing: stages agree on shapes once.
        """
        self.size = 1
        self.schedule = ScheduleGPipe(stage, micro_batches, loss_fn=self._loss, scale_grads=False)

    def accumulate(self, batch: Batch, rows_at_once: int) -> Tensor:
        """Loss summed over the batch in the last process; the gradient of this stage is now on its parameters.

        Micro-batches are as large as they were made at the start; a batch of more than a pass takes several.
        """
        self.size = batch.size
        total = torch.zeros((), device=batch.device)
        for at in range(0, batch.size, self.rows):
            for loss in self._pass(batch, at):
                total += loss.detach() * batch.size
        return total

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all stages, in the leading process."""
        return collected(tensors, self.team)

    def _pass(self, batch: Batch, at: int) -> list[Tensor]:
        """The losses of the micro-batches from row `at` on, in the last process; their gradients are added here."""
        place = torch.arange(at, at + self.rows, device=batch.device)
        padding, weight = place % batch.size, (place < batch.size).float()
        padded = batch.rows.take(padding)
        inputs = (padded.values, padded.indices) if self.network.first else ()
        target = torch.stack([padded.given, weight], 1) if self.network.last else None
        losses: list[Tensor] = []
        self.schedule.step(*inputs, kept=batch.kept[padding, self.network.units], target=target, losses=losses)
        return losses

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        each = nn.functional.binary_cross_entropy_with_logits(logits, target[:, 0], reduction="none")
        return (each * target[:, 1]).sum() / self.size


def _parts(network: TabularNetwork, team: Team) -> range:
    """The parts of this process among embeddings, layers and output."""
    count = len(network.layers) + 2
    if team.size > count:
        raise ConfigurationError(
            "training.parallel.processes",
            found=f"{team.size} processes for {count} stages",
            wanted=f"at most {count}: embeddings, {count - 2} hidden layers and the output",
            remedy="Lower training.parallel.processes, or add layers to training.hidden.",
        )
    own = np.array_split(np.arange(count), team.size)[team.rank]
    return range(int(own[0]), int(own[-1]) + 1)


def _precision(training: Training) -> torch.dtype:
    return torch.bfloat16 if training.precision == "bfloat16" else torch.float32
