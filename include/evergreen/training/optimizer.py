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
FUSED = ("cpu", "cuda")
"""Devices where torch takes the whole step in one pass over memory."""


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
        weights = [held_here(weight) for weight in self.parameters.values()]
        gradients = [held_here(_gradient(name, weight)) for name, weight in self.parameters.items()]
        means = [held_here(mean) for mean in self.means.values()]
        squares = [held_here(square) for square in self.squares.values()]
        move = _move_fused if weights[0].device.type in FUSED else _move
        move(weights, gradients, means, squares, number=number, rate=learning_rate, decay=self.weight_decay)
        for weight in self.parameters.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The running means by name."""
        named = {f"mean.{name}": mean for name, mean in self.means.items()}
        return named | {f"square.{name}": square for name, square in self.squares.items()}


def _move_fused(
    weights: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    *,
    number: int,
    rate: float,
    decay: float,
) -> None:
    steps = [torch.full((), float(number), device=weights[0].device)] * len(weights)
    torch._fused_adamw_(
        weights,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=rate,
        beta1=DECAY[0],
        beta2=DECAY[1],
        weight_decay=decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


def _move(
    weights: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    *,
    number: int,
    rate: float,
    decay: float,
) -> None:
    torch._foreach_lerp_(means, gradients, 1 - DECAY[0])
    torch._foreach_mul_(squares, DECAY[1])
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - DECAY[1])
    torch._foreach_mul_(weights, 1 - rate * decay)
    steps = torch._foreach_sqrt(squares)
    torch._foreach_div_(steps, math.sqrt(1 - DECAY[1] ** number))
    torch._foreach_add_(steps, EPSILON)
    torch._foreach_addcdiv_(weights, means, steps, value=-rate / (1 - DECAY[0] ** number))


def _gradient(name: str, weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise AssertionError(f"{name} took no part in the loss")
    return weight.grad


def held_here(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process: all of it, unless processes share it (a DTensor).

    Arithmetic element by element gives the same on parts as on the whole, without the cost of asking how it is split.
    """
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
