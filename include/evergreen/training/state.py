"""The moving parts of a training run: all that a checkpoint holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from evergreen.pipeline import Training
from evergreen.training.optimizer import AdamW, held_here
from evergreen.training.stretch import Stretch

AVERAGE_DECAY = 0.998
"""Of the weights' moving average: it spans about three epochs of 20,000 rows a day over three weeks."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What an epoch came to."""

    epoch: int
    """From 1."""
    loss: float
    """Mean binary cross-entropy in nats over the rows drawn."""
    average_precision: float
    """Of the averaged weights on the validation part."""


@dataclass(kw_only=True)
class Progress:
    """How far the epoch under way has come; all zero between epochs."""

    batches: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Summed over the rows that this process computed."""
    chance: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    """State of the epoch's random numbers after those batches."""


class TrainingState:
    """Weights, their moving average, the best average so far, the optimizer, the curve and the epoch under way.

    `architecture` names the code and the fingerprint of the whole network, of which this process may hold a part alone.
    """

    def __init__(self, network: nn.Module, training: Training, *, architecture: str) -> None:
        self.network = network
        self.architecture = architecture
        self.average = self._weights()
        self.best = self._weights()
        self.optimizer = AdamW(dict(network.named_parameters()), weight_decay=training.weight_decay)
        self.steps = 0
        self.curve: list[EpochResult] = []
        self.stretches: list[Stretch] = []
        self.progress = Progress()

    def go_on(self, *, rows_at_once: int, processes: int) -> None:
        """Note how steps are taken from here on, if that is new: by more memory errors or on other machines."""
        now = Stretch(first_step=self.steps, rows_at_once=rows_at_once, processes=processes)
        if not self.stretches or replace(self.stretches[-1], first_step=self.steps) != now:
            self.stretches.append(now)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest average precision; 0 before any."""
        return max(self.curve, key=lambda r: (r.average_precision, -r.epoch)).epoch if self.curve else 0

    @property
    def stale_epochs(self) -> int:
        """Epochs since the best one."""
        return len(self.curve) - self.best_epoch

    def step(self, learning_rate: float) -> None:
        """Move the weights by their gradients and the average towards them, faster while few steps lie behind it."""
        self.steps += 1
        self.optimizer.step(self.steps, learning_rate)
        decay = min(AVERAGE_DECAY, self.steps / (9 + self.steps))
        weights = self.optimizer.parameters
        with torch.no_grad():
            averages = [held_here(self.average[name]) for name in weights]
            torch._foreach_lerp_(averages, [held_here(weight) for weight in weights.values()], 1 - decay)

    def finish_epoch(self, result: EpochResult) -> None:
        """Note the epoch, and keep its averaged weights when they are the best."""
        self.curve.append(result)
        self.progress = Progress()
        if self.best_epoch == result.epoch:
            _copy(self.average, self.best)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that moves, by a flat name; those of parts held elsewhere are not among them."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "network": dict(self.network.named_parameters()),
            "average": self.average,
            "best": self.best,
        }
        named = {f"{part}.{name}": tensor.detach() for part, held in parts.items() for name, tensor in held.items()}
        return named | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def numbers(self) -> dict[str, Any]:
        """Everything else but the epoch under way, as JSON can hold it without loss."""
        curve, stretches = ([asdict(each) for each in some] for some in (self.curve, self.stretches))
        return {"steps": self.steps, "curve": curve, "stretches": stretches}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], progress: Progress) -> None:
        """Become the state that these describe."""
        _copy(tensors, self.tensors())
        self.steps = numbers["steps"]
        self.curve = [EpochResult(**result) for result in numbers["curve"]]
        self.stretches = [Stretch(**stretch) for stretch in numbers["stretches"]]
        self.progress = progress

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.network.named_parameters()}


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of a network's architecture: names and shapes of its weights, and the constants fitted to the data."""
    digest = hashlib.sha256()
    for name, weight in network.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
    for name, constant in network.named_buffers():
        digest.update(f"{name} {tuple(constant.shape)} {constant.dtype}\n".encode())
        digest.update(constant.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        held_here(tensor).copy_(held_here(source[name]))
