"""Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), over parameters that stay in place.

`torch.optim` does the same arithmetic, but its first use imports torch's compiler: 4 s of a run that takes 30.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

DECAY = (0.9, 0.999)
"""Of the running means of the gradient and of its square."""
EPSILON = 1e-8


class AdamW:
    """Two running means for each parameter."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, number: int, learning_rate: float) -> None:
        """Move the parameters by their gradients, which are then cleared; `number` counts steps from 1."""
        rate = learning_rate / (1 - DECAY[0] ** number)
        spread = math.sqrt(1 - DECAY[1] ** number)
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient = parameter.grad
            if gradient is None:
                raise AssertionError("a parameter took no part in the loss")
            mean.lerp_(gradient, 1 - DECAY[0])
            square.mul_(DECAY[1]).addcmul_(gradient, gradient, value=1 - DECAY[1])
            parameter.mul_(1 - learning_rate * self.weight_decay)
            parameter.addcdiv_(mean, square.sqrt().div_(spread).add_(EPSILON), value=-rate)
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The running means by name."""
        named = {f"mean.{i}": mean for i, mean in enumerate(self.means)}
        return named | {f"square.{i}": square for i, square in enumerate(self.squares)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the running means that `tensors` gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
