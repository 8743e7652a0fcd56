"""The moving parts of a training run: all that a checkpoint holds."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from evergreen.pipeline import Training
from evergreen.training.network import TabularNetwork
from evergreen.training.optimizer import AdamW

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


class TrainingState:
    """Weights, their moving average, the best average so far, the optimizer and the curve."""

    def __init__(self, network: TabularNetwork, training: Training) -> None:
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.optimizer = AdamW(network.parameters(), weight_decay=training.weight_decay)
        self.steps = 0
        self.curve: list[EpochResult] = []

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
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)

    def finish_epoch(self, result: EpochResult) -> None:
        """Note the epoch, and keep its averaged weights when they are the best."""
        self.curve.append(result)
        if self.best_epoch == result.epoch:
            self.best.load_state_dict(self.average.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by a flat name, on the CPU."""
        networks = {"network": self.network, "average": self.average, "best": self.best}
        named = {f"{part}.{k}": v for part, net in networks.items() for k, v in net.state_dict().items()}
        named |= {f"optimizer.{k}": v for k, v in self.optimizer.tensors().items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}

    def numbers(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it without loss."""
        return {"steps": self.steps, "curve": [asdict(result) for result in self.curve]}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Become the state that `tensors` and `numbers` describe."""
        for part, net in (("network", self.network), ("average", self.average), ("best", self.best)):
            net.load_state_dict(_below(part, tensors))
        self.optimizer.restore(_below("optimizer", tensors))
        self.steps = numbers["steps"]
        self.curve = [EpochResult(**result) for result in numbers["curve"]]


def _below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
