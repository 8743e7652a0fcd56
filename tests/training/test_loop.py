"""What an epoch draws, and that cutting batches changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch

from evergreen.training.batch import Batch
from evergreen.training.dataset import Examples
from evergreen.training.encoders import fit_encoders
from evergreen.training.loop import score
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import WHOLE, Rows, draw_rows, drawn_share
from evergreen.training.scorer import numeric_matrix
from evergreen.training.strategy import Alone


@pytest.fixture
def prepared(make_rows: Callable[..., pl.DataFrame]) -> tuple[TabularNetwork, Rows]:
    """An untrained network and encoded rows for it."""
    frame = make_rows(600)
    examples = Examples(
        numeric=numeric_matrix(frame, ("amount", "card_since_last")),
        categorical=frame.select("channel", "merchant_id"),
        labels=frame["label"].cast(pl.Float32).to_numpy(),
    )
    encoders, encoded = fit_encoders(examples)
    torch.manual_seed(0)
    return TabularNetwork(encoders, hidden=(16, 16), dropout=0.3), Rows.on(torch.device("cpu"), encoded)


def test_an_epoch_holds_every_positive_and_other_negatives_than_the_last() -> None:
    labels = torch.tensor([1.0] * 20 + [0.0] * 500)
    first, second = (draw_rows(labels, 0.1, torch.Generator().manual_seed(epoch)) for epoch in (1, 2))
    for drawn in (first, second):
        assert labels[drawn].sum() == 20
        assert drawn.unique().numel() == drawn.numel() == 70
    assert set(first.tolist()) != set(second.tolist())


def test_at_least_one_negative_is_drawn() -> None:
    assert drawn_share(2, 0.01) == 0.5


@pytest.mark.parametrize("rows_at_once", [7, 128, 600])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    prepared: tuple[TabularNetwork, Rows], rows_at_once: int
) -> None:
    network, rows = prepared
    gradients = []
    batch = Batch.draw(rows, network, size=rows.num_rows, share=WHOLE, draws=torch.Generator().manual_seed(3))
    for size in (rows.num_rows, rows_at_once):
        network.zero_grad()
        Alone(network, precision=torch.float32).accumulate(batch, size)
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_first_scores_are_the_prior(prepared: tuple[TabularNetwork, Rows]) -> None:
    network, rows = prepared
    network.start_from(0.02)
    assert np.median(1 / (1 + np.exp(-score(network, rows)))) == pytest.approx(0.02, rel=0.1)
