"""Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), over parameters that stay in place.

`torch.optim` does the same arithmetic, but its first use imports torch's compiler: 4 s of a run that takes 30.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

DECAY = (0.9, 0.999)
"""Of the running means of the gradient and of its square."""
EPSILON = 1e-8


class AdamW:
    """Two running means for each parameter, by its name."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, weight_decay: float) -> None:
        self.parameters = dict(parameters)
        self.means = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.squares = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, number: int, learning_rate: float) -> None:
        """Move the parameters by their gradients, which are then cleared; `number` counts steps from 1."""
        rate = learning_rate / (1 - DECAY[0] ** number)
        spread = math.sqrt(1 - DECAY[1] ** number)
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                raise AssertionError(f"{name} took no part in the loss")
            moving = (parameter, parameter.grad, self.means[name], self.squares[name])
            weight, gradient, mean, square = map(held_here, moving)
            mean.lerp_(gradient, 1 - DECAY[0])
            square.mul_(DECAY[1]).addcmul_(gradient, gradient, value=1 - DECAY[1])
            weight.mul_(1 - learning_rate * self.weight_decay)
            weight.addcdiv_(mean, square.sqrt().div_(spread).add_(EPSILON), value=-rate)
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The running means by name."""
        named = {f"mean.{name}": mean for name, mean in self.means.items()}
        return named | {f"square.{name}": square for name, square in self.squares.items()}


def held_here(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process: all of it, unless processes share it (a DTensor).

    Arithmetic element by element gives the same on parts as on the whole, without the cost of asking how it is split.
    """
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
