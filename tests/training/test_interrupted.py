"""Runs that end early in every way, and end at the same weights when they are tried again."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from evergreen import provenance
from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import ConfigurationError, OutOfMemory, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.lake.objects import LocalObjects
from evergreen.pipeline import Pipeline
from evergreen.training import loop, shards
from evergreen.training.checkpoint_folder import clear_checkpoints
from evergreen.training.state import EpochResult, TrainingState
from evergreen.training.train import train


@pytest.fixture
def training_set(lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet]) -> TrainingSet:
    """The usual training set, stored in `lake`."""
    return make_training_set(lake, tiny)


def _train(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, work: Path, **options: object) -> Model:
    """As the step does: no checkpoint outlives the model's proof."""
    work.mkdir(parents=True)
    model = train(pipeline, training_set, lake, work=work, **options)  # type: ignore[arg-type]
    clear_checkpoints(lake, model)
    return model


def _changed(pipeline: Pipeline, **training: object) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update=training)})


@pytest.mark.parametrize("stored", ["in memory", "on disk"])
@pytest.mark.parametrize("step", [1, 8, 13])
def test_sigterm_inside_an_epoch_saves_it_and_the_next_try_ends_at_the_same_bits(
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: int,
    stored: str,
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 256)
    monkeypatch.setattr(shards, "WINDOW_SHARDS", 3)
    pipeline = _changed(tiny, rows_in_memory=1000 if stored == "on disk" else 10_000)
    training_set = make_training_set(lake, pipeline)
    whole = _train(pipeline, training_set, lake, tmp_path / "whole")
    taken = TrainingState.step

    def interrupted(state: TrainingState, learning_rate: float) -> None:
        taken(state, learning_rate)
        if state.steps == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingState, "step", interrupted)
    with pytest.raises(TemporaryError) as caught:
        _train(pipeline, training_set, lake, tmp_path / "ended")
    assert caught.value.exit_code == 75
    monkeypatch.setattr(TrainingState, "step", taken)
    caplog.set_level(logging.INFO)
    assert _train(pipeline, training_set, lake, tmp_path / "resumed") == whole
    epoch, batches = divmod(step, 7)
    assert f"resumed after epoch {epoch} and {batches} batches" in caplog.text


def test_a_long_epoch_is_saved_on_its_way(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    class Killed(Exception):
        """Stands for a process that ended without a word."""

    taken = TrainingState.step

    def killed(state: TrainingState, learning_rate: float) -> None:
        taken(state, learning_rate)
        if state.steps == 11:
            raise Killed

    monkeypatch.setattr(TrainingState, "step", killed)
    with pytest.raises(Killed):
        _train(tiny, training_set, lake, tmp_path / "killed")
    assert [Path(path).name for path in lake.objects.list("checkpoints")] == [
        "epoch-000001.00000002.ckpt",
        "epoch-000001.00000003.ckpt",
    ]
    monkeypatch.setattr(TrainingState, "step", taken)
    assert _train(tiny, training_set, lake, tmp_path / "resumed") == whole


def test_half_the_rows_at_once_finish_what_ran_out_of_memory_at_equal_weights(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def run_out(result: EpochResult) -> None:
        if result.epoch == 2:
            torch.empty(1 << 60, dtype=torch.uint8)

    with pytest.raises(OutOfMemory, match="micro_batch_rows=128") as caught:
        _train(tiny, training_set, lake, tmp_path / "out", on_progress=run_out)
    assert caught.value.exit_code == 137
    caplog.set_level(logging.INFO)
    halved = _train(tiny, training_set, lake, tmp_path / "halved", micro_batch_rows=128)
    assert "resumed after epoch 2" in caplog.text
    weights = [load(lake.objects.get(f"{model.uri}/weights.safetensors")) for model in (whole, halved)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


def test_a_checkpoint_of_another_architecture_is_passed_over(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def stop(result: EpochResult) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    folders = []
    for hidden in ((24, 24), (16,)):
        with pytest.raises(TemporaryError):
            _train(_changed(tiny, hidden=hidden), training_set, lake, tmp_path / str(hidden), on_progress=stop)
        folders += [path for path in lake.objects.list("checkpoints") if path not in folders]
    assert len({Path(path).parent for path in folders}) == 2
    lake.objects.put(folders[0], lake.objects.get(folders[1]))
    assert _train(tiny, training_set, lake, tmp_path / "resumed") == whole
    assert "is of another architecture or other code; passing it over" in caplog.text


@pytest.fixture
def edit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes this process one of other sources, as the image of a retry may have."""

    def edit() -> None:
        (tmp_path / "evergreen").mkdir()
        monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "evergreen")
        provenance.code_digest.cache_clear()

    yield edit
    provenance.code_digest.cache_clear()


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_checkpoint_of_other_code_is_passed_over_and_cleared(
    lake: Lake,
    tiny: Pipeline,
    training_set: TrainingSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    edit_code: Callable[[], None],
    epoch: int,
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def stop(result: EpochResult) -> None:
        if result.epoch == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TemporaryError):
        _train(tiny, training_set, lake, tmp_path / "ended", on_progress=stop)
    edit_code()
    seen: list[int] = []
    assert _train(tiny, training_set, lake, tmp_path / "again", on_progress=lambda r: seen.append(r.epoch)) == whole
    assert seen == [1, 2, 3, 4, 5]
    assert "is of another architecture or other code; passing it over" in caplog.text
    assert lake.objects.list("checkpoints") == []


def test_a_checkpoint_removed_since_it_was_listed_is_passed_over_for_the_one_before(
    lake: Lake,
    tiny: Pipeline,
    training_set: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def stop(result: EpochResult) -> None:
        if result.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TemporaryError):
        _train(tiny, training_set, lake, tmp_path / "ended", on_progress=stop)
    older, newest = lake.objects.list("checkpoints")
    list_paths = LocalObjects.list

    def removed_meanwhile(objects: LocalObjects, prefix: str) -> list[str]:
        paths = list_paths(objects, prefix)
        objects.delete(newest)
        return paths

    monkeypatch.setattr(LocalObjects, "list", removed_meanwhile)
    caplog.set_level(logging.INFO)
    assert _train(tiny, training_set, lake, tmp_path / "resumed") == whole
    assert f"resumed after epoch 2 from {older}" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_asked_for_and_not_there_is_named(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"resource profile \(cuda\): found no cuda device"):
        _train(tiny, training_set, lake, tmp_path / "work", expected_device="cuda")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_other_precisions_end_near_the_same_weights(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, precision: str
) -> None:
    """tf32 is float32 on a CPU; bfloat16 keeps eight bits of each factor."""
    models = [_train(_changed(tiny, precision=p), training_set, lake, tmp_path / p) for p in ("float32", precision)]
    weights = [load(lake.objects.get(f"{model.uri}/weights.safetensors")) for model in models]
    most = 1e-6 if precision == "tf32" and not torch.cuda.is_available() else 0.2
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=most) for name in weights[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA device here")
def test_a_cpu_and_a_gpu_agree(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They draw other chance, so the comparison is of what was learned: average precision within 0.05."""
    scores = []
    for device in ("cuda", None):
        if device is None:
            monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        model = _train(tiny, training_set, lake, tmp_path / str(device), expected_device=device)
        scores.append(lake.objects.get(f"{model.uri}/metrics.json"))
    import json

    assert json.loads(scores[0])["average_precision"] == pytest.approx(
        json.loads(scores[1])["average_precision"], abs=0.05
    )
