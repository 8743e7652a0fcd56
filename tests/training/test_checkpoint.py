"""Which checkpoints stay in a run's folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evergreen.artifacts import TrainingSet
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.training.checkpoint import Checkpoints, WholeCheckpoints
from evergreen.training.parallel.checkpoint import ShardedCheckpoints
from evergreen.training.recipe import Recipe
from evergreen.training.state import EpochResult, TrainingState
from evergreen.training.team import ALONE


@pytest.fixture(params=["whole", "sharded"])
def checkpoints(
    request: pytest.FixtureRequest,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
) -> Checkpoints:
    """Those of a run in one process, by either class."""
    recipe = Recipe.of(tiny, seed=None, micro_batch_rows=None, device="cpu")
    given = (lake.objects, make_training_set(lake, tiny), recipe, tmp_path)
    return WholeCheckpoints(*given) if request.param == "whole" else ShardedCheckpoints(*given, ALONE)


def _state(tiny: Pipeline, architecture: str, *, epochs: int = 0) -> TrainingState:
    state = TrainingState(torch.nn.Linear(2, 1), tiny.training, architecture=architecture)
    for _ in range(epochs):
        _finish_epoch(state)
    return state


def _finish_epoch(state: TrainingState) -> None:
    state.finish_epoch(EpochResult(epoch=len(state.curve) + 1, loss=1.0, average_precision=0.1))


def _saved(checkpoints: Checkpoints, state: TrainingState) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        checkpoints.save(state)


def _kept(lake: Lake) -> list[str]:
    """Names of the checkpoints of the one run in the lake."""
    paths = (path.split("/")[3] for path in lake.objects.list("checkpoints"))
    return sorted({name.removesuffix(".ckpt") for name in paths})


def test_a_run_that_passed_the_newest_over_keeps_its_own(lake: Lake, tiny: Pipeline, checkpoints: Checkpoints) -> None:
    other = _state(tiny, "other", epochs=9)
    for _ in range(2):
        _finish_epoch(other)
        _saved(checkpoints, other)
    assert _kept(lake) == ["epoch-000010", "epoch-000011"]
    run = _state(tiny, "own")
    assert not checkpoints.resume(run)
    kept = []
    for _ in range(3):
        _finish_epoch(run)
        _saved(checkpoints, run)
        kept.append(_kept(lake))
    assert kept == [["epoch-000001"], ["epoch-000001", "epoch-000002"], ["epoch-000002", "epoch-000003"]]
