"""After memory ran out, training goes on from its checkpoint with half the rows at once and ends where it would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import OutOfMemory
from evergreen.lake.lake import Lake
from evergreen.pipeline import Parallel, Pipeline
from evergreen.training.checkpoint_folder import clear_checkpoints
from evergreen.training.recipe import Recipe
from evergreen.training.state import EpochResult
from evergreen.training.train import train


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _weights(lake: Lake, model: Model) -> dict[str, torch.Tensor]:
    return load(lake.objects.get(f"{model.uri}/weights.safetensors"))


def _recipe(tiny: Pipeline, given: int | None, spec: int | None, strategy: Any = "none") -> Recipe:
    changed = {"batch_rows": 256, "micro_batch_rows": spec, "parallel": Parallel(strategy=strategy)}
    pipeline = tiny.model_copy(update={"training": tiny.training.model_copy(update=changed)})
    return Recipe.of(pipeline, seed=None, micro_batch_rows=given, device="cpu")


@pytest.mark.parametrize(
    ("given", "spec", "halvings", "rows"),
    [
        (None, None, 0, None),
        (None, None, 2, 64),
        (None, 128, 1, 64),
        (64, 128, 1, 32),
        (None, 1024, 1, 128),
        (None, None, 20, 1),
    ],
)
def test_each_halving_leaves_half_the_rows(
    tiny: Pipeline, given: int | None, spec: int | None, halvings: int, rows: int | None
) -> None:
    assert _recipe(tiny, given, spec).halved(halvings).training.micro_batch_rows == rows


@pytest.mark.parametrize(
    ("strategy", "spec", "rows"),
    [
        ("data", None, 32),
        ("sharded", None, 32),
        ("tensor", None, 128),
        ("pipeline", None, 8),
        ("data", 200, 32),
        ("data", 16, 8),
        ("pipeline", 100, 8),
        ("pipeline", 8, 4),
    ],
)
def test_a_halving_halves_what_each_of_four_processes_takes_at_once(
    tiny: Pipeline, strategy: str, spec: int | None, rows: int
) -> None:
    """Of 256 rows: a share of 64, or one of 16 micro-batches of 16 rows, however large the spec's micro-batch."""
    recipe = _recipe(tiny, None, spec, strategy)
    halved = recipe.halved(1, processes=4)
    assert halved.training.micro_batch_rows == rows
    assert halved.digest == recipe.digest


def test_training_that_ran_out_of_memory_ends_as_if_it_had_not(
    lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet], tmp_path: Path
) -> None:
    training_set = make_training_set(lake, tiny)

    def run_out(result: EpochResult) -> None:
        if result.epoch == 2:
            raise MemoryError("CUDA out of memory")

    first = train(tiny, training_set, lake, work=_made(tmp_path / "whole"))
    clear_checkpoints(lake, first)
    with pytest.raises(OutOfMemory) as caught:
        train(tiny, training_set, lake, work=_made(tmp_path / "first"), on_progress=run_out)
    assert caught.value.exit_code == 137
    seen: list[int] = []
    second = train(
        tiny,
        training_set,
        lake,
        work=_made(tmp_path / "second"),
        halvings=1,
        on_progress=lambda result: seen.append(result.epoch),
    )
    whole, halved = _weights(lake, first), _weights(lake, second)
    assert all(torch.allclose(whole[name], halved[name], atol=2e-3) for name in whole)
    assert seen == [3, 4, 5]
    assert json.loads(lake.objects.get(f"{second.uri}/config.json"))["training"]["micro_batch_rows"] == 128
