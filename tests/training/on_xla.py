"""Run in .venv-xla: trains one network on the CPU and on an XLA device, which a TPU is or the CPU stands in for.

Prints JSON: the kind of device; how far apart the weights end, name by name; the error of a tensor too large for it.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from evergreen.errors import OutOfMemory
from evergreen.pipeline import Training
from evergreen.training.dataset import Examples
from evergreen.training.devices import choose_device, memory_errors
from evergreen.training.encoders import Encoded, fit_encoders
from evergreen.training.interruption import Interruption
from evergreen.training.loop import Fit
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import Rows
from evergreen.training.scorer import numeric_matrix
from evergreen.training.state import TrainingState
from evergreen.training.strategy import Alone

TRAINING = Training(batch_rows=128, max_epochs=3, negative_share=1.0)


class Nowhere:
    """Checkpoints that are made and thrown away."""

    def save(self, state: TrainingState) -> None:
        assert all(tensor.cpu().isfinite().all() for tensor in state.tensors().values())

    def resume(self, state: TrainingState) -> bool:
        return False


def main(path: Path) -> None:
    frame = pl.read_parquet(path)
    examples = Examples(
        numeric=numeric_matrix(frame, ("amount", "card_since_last")),
        categorical=frame.select("channel", "merchant_id"),
        labels=frame["label"].cast(pl.Float32).to_numpy(),
    )
    encoders, encoded = fit_encoders(examples)
    torch.manual_seed(0)
    network = TabularNetwork(encoders, hidden=(16, 16), dropout=0.2)
    device = choose_device(expected="xla")
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    here, there = (trained(network, encoded, on) for on in (torch.device("cpu"), device))
    said = {
        "device": device.type,
        "apart": {name: distance(here[name], there[name]) for name in here},
        "learned": {name: distance(here[name], before[name]) for name in before},
        "too large": told(device),
    }
    print(json.dumps(said))  # noqa: T201


def trained(network: TabularNetwork, encoded: Encoded, device: torch.device) -> dict[str, Tensor]:
    """The averaged weights, on the CPU, after the loop ran on `device`."""
    own, rows = copy.deepcopy(network).to(device), Rows.on(device, encoded)
    state = TrainingState(own, TRAINING, architecture="")
    Fit(
        state=state,
        network=copy.deepcopy(own).requires_grad_(False),
        device=device,
        strategy=Alone(own, precision=torch.float32),
        train=rows,
        validation=rows,
        training=TRAINING,
        checkpoints=Nowhere(),
        interruption=Interruption(),
    ).run()
    return {name: weight.cpu() for name, weight in state.average.items()}


def told(device: torch.device) -> str:
    """The error of a tensor that no machine has room for."""
    try:
        with memory_errors(batch_rows=64):
            return f"the last is {torch.ones(1 << 50, device=device).cumsum(0)[-1].item()}"
    except OutOfMemory as error:
        return str(error)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
