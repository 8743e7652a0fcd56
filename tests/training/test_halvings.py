"""After memory ran out, training goes on from its checkpoint with half the micro-batch and ends where it would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import OutOfMemory
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.step import _halved
from evergreen.training.state import EpochResult
from evergreen.training.train import train


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _weights(lake: Lake, model: Model) -> dict[str, torch.Tensor]:
    return load(lake.objects.get(f"{model.uri}/weights.safetensors"))


@pytest.mark.parametrize(
    ("given", "spec", "halvings", "rows"),
    [(None, None, 0, None), (None, None, 2, 64), (None, 128, 1, 64), (64, 128, 1, 32), (None, None, 20, 1)],
)
def test_each_halving_leaves_half_the_rows(
    tiny: Pipeline, given: int | None, spec: int | None, halvings: int, rows: int | None
) -> None:
    training = tiny.training.model_copy(update={"batch_rows": 256, "micro_batch_rows": spec})
    assert _halved(training, given, halvings) == rows


def test_training_that_ran_out_of_memory_ends_as_if_it_had_not(
    lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet], tmp_path: Path
) -> None:
    training_set = make_training_set(lake, tiny)

    def run_out(result: EpochResult) -> None:
        if result.epoch == 2:
            raise MemoryError("CUDA out of memory")

    whole = _weights(lake, train(tiny, training_set, lake, work=_made(tmp_path / "whole")))
    with pytest.raises(OutOfMemory) as caught:
        train(tiny, training_set, lake, work=_made(tmp_path / "first"), on_progress=run_out)
    assert caught.value.exit_code == 137
    rows = _halved(tiny.training, None, 1)
    halved = _weights(lake, train(tiny, training_set, lake, work=_made(tmp_path / "second"), micro_batch_rows=rows))
    assert all(torch.allclose(whole[name], halved[name], atol=2e-3) for name in whole)
