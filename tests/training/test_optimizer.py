"""The optimizer against the paper's formula, written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evergreen.training.optimizer import AdamW


def _expected(start: np.ndarray, gradients: list[np.ndarray], *, rate: float, decay: float) -> np.ndarray:
    """Loshchilov & Hutter 2019, algorithm 2, line by line, with the schedule multiplier inside `rate`."""
    theta, m, v = start.astype(np.float64), np.zeros_like(start), np.zeros_like(start)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        theta = theta - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * theta)
    return theta


@pytest.mark.parametrize("fused", [("cpu",), ()], ids=["in one pass", "operation by operation"])
def test_steps_are_those_of_the_paper(fused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.training.optimizer.FUSED", fused)
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), [rng.normal(size=(3, 4)) for _ in range(20)]
    parameter = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = AdamW({"weight": parameter}, weight_decay=0.1)
    for number, gradient in enumerate(gradients, start=1):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step(number, 0.01)
    wanted = _expected(start, gradients, rate=0.01, decay=0.1)
    assert parameter.detach().numpy() == pytest.approx(wanted, abs=1e-5)
    assert parameter.grad is None
