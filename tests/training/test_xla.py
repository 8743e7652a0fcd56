"""The loop on an XLA device (a TPU, or PyTorch/XLA's own CPU device) beside the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import polars as pl
import pytest
import torch

from evergreen.pipeline import Training
from evergreen.training.dataset import Examples
from evergreen.training.devices import choose_device
from evergreen.training.encoders import fit_encoders
from evergreen.training.interruption import Interruption
from evergreen.training.loop import Fit
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import Rows
from evergreen.training.scorer import numeric_matrix
from evergreen.training.state import TrainingState
from evergreen.training.strategy import Alone

pytestmark = pytest.mark.skipif(
    find_spec("torch_xla") is None,
    reason="torch_xla is not installed: its last release wants torch 2.9, so it has an environment of its own "
    "(docs/parallel-training.md)",
)


class Nowhere:
    """Checkpoints that are made and thrown away."""

    def save(self, state: TrainingState) -> None:
        assert all(tensor.cpu().isfinite().all() for tensor in state.tensors().values())

    def resume(self, state: TrainingState) -> bool:
        return False

    def clear(self) -> None:
        pass


def test_an_xla_device_ends_at_the_weights_of_the_cpu(make_rows: Callable[..., pl.DataFrame]) -> None:
    frame = make_rows(600)
    examples = Examples(
        numeric=numeric_matrix(frame, ("amount", "card_since_last")),
        categorical=frame.select("channel", "merchant_id"),
        labels=frame["label"].cast(pl.Float32).to_numpy(),
    )
    encoders, encoded = fit_encoders(examples)
    torch.manual_seed(0)
    network = TabularNetwork(encoders, hidden=(16, 16), dropout=0.2)
    training = Training(batch_rows=128, max_epochs=3, negative_share=1.0)
    averages = []
    for device in (torch.device("cpu"), choose_device(expected="xla")):
        trained, rows = copy.deepcopy(network).to(device), Rows.on(device, encoded)
        state = TrainingState(trained, training, architecture="")
        Fit(
            state=state,
            network=copy.deepcopy(trained).requires_grad_(False),
            device=device,
            strategy=Alone(trained, precision=torch.float32),
            train=rows,
            validation=rows,
            training=training,
            checkpoints=Nowhere(),
            interruption=Interruption(),
        ).run()
        averages.append({name: weight.cpu() for name, weight in state.average.items()})
    assert all(torch.allclose(averages[0][name], averages[1][name], atol=1e-4) for name in averages[0])
