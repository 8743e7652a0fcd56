"""Whole runs in two processes, started by torchrun as the step starts them, and what ends them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest
import torch
from safetensors.torch import load

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import ConfigurationError, DataError, OutOfMemory, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Parallel, Pipeline
from evergreen.settings import Rendezvous
from evergreen.training.checkpoint_folder import checkpoint_folder, clear_checkpoints
from evergreen.training.parallel import launch
from evergreen.training.parallel.job import Job
from evergreen.training.parallel.launch import environment, torchrun
from evergreen.training.recipe import Recipe
from evergreen.training.train import train
from loopback import free_port

WORKER = "evergreen.training.parallel.worker"
NCCL_WAITS = 600.0
"""Seconds: far longer than the run needs to end; hours, really."""


@pytest.fixture
def pair(tiny: Pipeline) -> Pipeline:
    """`tiny`, trained by two processes for long enough to be ended on the way."""
    training = tiny.training.model_copy(
        update={"parallel": Parallel(strategy="data", processes=2), "max_epochs": 12, "patience": 12, "batch_rows": 64}
    )
    return tiny.model_copy(update={"training": training})


def _train(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, work: Path, *, halvings: int = 0) -> Model:
    """As the step does: no checkpoint outlives the model's proof."""
    work.mkdir()
    model = train(pipeline, training_set, lake, work=work, halvings=halvings)
    clear_checkpoints(lake, model)
    return model


def _processes(work: Path) -> list[psutil.Process]:
    """Those that were started for a training in this folder and have not ended."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(work) in " ".join(p.info["cmdline"] or [])]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a program of this folder run in place of the worker, with the variables given."""

    def use(program: str, **variables: str) -> None:
        monkeypatch.setattr(launch, "WORKER", program)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


def test_killed_processes_resume_to_the_bits_of_an_uninterrupted_run(
    lake: Lake,
    tiny: Pipeline,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stand_in: Callable[..., None],
) -> None:
    training_set = make_training_set(lake, pair)
    whole = _train(pair, training_set, lake, tmp_path / "whole")
    capfd.readouterr()

    stand_in("ended_on_the_way")
    assert _train(pair, training_set, lake, tmp_path / "killed") == whole
    assert "resumed after epoch" in capfd.readouterr().out

    stand_in("ended_on_the_way", STEP=str(os.getpid()))
    with pytest.raises(TemporaryError, match="resumes from the last checkpoint") as caught:
        _train(pair, training_set, lake, tmp_path / "ended")
    assert caught.value.exit_code == 75
    assert not _processes(tmp_path / "ended")
    stand_in(WORKER)
    assert _train(pair, training_set, lake, tmp_path / "resumed") == whole
    assert "resumed after epoch" in capfd.readouterr().out
    assert lake.objects.list("checkpoints") == []

    _require_close_weights(lake, whole, _train(_shared_by(pair, Parallel()), training_set, lake, tmp_path / "alone"))


def test_another_number_of_processes_goes_on_where_these_were_ended(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stand_in: Callable[..., None],
) -> None:
    training_set = make_training_set(lake, pair)
    stand_in("ended_on_the_way", STEP=str(os.getpid()))
    with pytest.raises(TemporaryError, match="resumes from the last checkpoint"):
        _train(pair, training_set, lake, tmp_path / "two")
    stand_in(WORKER)
    capfd.readouterr()
    three, alone = (_shared_by(pair, parallel) for parallel in (Parallel(strategy="data", processes=3), Parallel()))
    found = _train(three, training_set, lake, tmp_path / "three")
    assert "resumed after epoch" in capfd.readouterr().out
    single = _train(alone, training_set, lake, tmp_path / "alone")
    _require_close_weights(lake, found, single)


def _shared_by(pipeline: Pipeline, parallel: Parallel) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"parallel": parallel})})


def _require_close_weights(lake: Lake, found: Model, wanted: Model) -> None:
    weights = [load(lake.objects.get(f"{model.uri}/weights.safetensors")) for model in (found, wanted)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[1])


def test_processes_that_die_at_every_start_leave_the_run_to_the_next_try(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    stand_in: Callable[..., None],
) -> None:
    starts, training_set = tmp_path / "starts", make_training_set(lake, pair)
    stand_in("dies_at_once", STARTS=str(starts))
    recipe = Recipe.of(pair, seed=None, micro_batch_rows=None, device="cpu")
    lake.objects.put(f"{checkpoint_folder(training_set.digest, recipe)}/epoch-000001/manifest.json", b"left over")
    with pytest.raises(TemporaryError, match="found exit code 1 after 3 new starts") as caught:
        train(pair, training_set, lake, work=tmp_path, afresh=True)
    assert lake.objects.list("checkpoints") == []
    assert caught.value.exit_code == 75
    assert set(starts.read_text().split()) == {"0", "1", "2", "3"}


def test_an_error_that_no_new_start_can_mend_ends_the_run_at_once(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
) -> None:
    training_set = make_training_set(lake, pair, validation=make_rows(300).drop("hour"))
    started = time.monotonic()
    with pytest.raises(DataError, match="validation part: found no hour"):
        _train(pair, training_set, lake, tmp_path / "work")
    assert (tmp_path / "work" / "failure.json").exists()
    assert time.monotonic() - started < NCCL_WAITS


def _job(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, work: Path) -> Job:
    work.mkdir(parents=True)
    return Job(
        pipeline=pipeline,
        training_set=training_set,
        lake_url=lake.url,
        seed=None,
        micro_batch_rows=None,
        halvings=0,
        expected_device=None,
        work=work,
    )


def test_processes_of_two_machines_meet_and_make_one_model(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
) -> None:
    training = pair.training.model_copy(update={"max_epochs": 2})
    pipeline = pair.model_copy(update={"training": training})
    training_set = make_training_set(lake, pipeline)
    jobs, running = [], []
    endpoint = f"127.0.0.1:{free_port()}"
    for index in range(2):
        job = _job(pipeline, training_set, lake, tmp_path / f"machine-{index}")
        place = Rendezvous(nodes=2, index=index, endpoint=endpoint, address="127.0.0.1")
        running.append(subprocess.Popen(torchrun(1, place, job), env=environment({})))
        jobs.append(job)
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    models = [job.read_model() for job in jobs]
    assert models[0] == models[1]
    assert lake.objects.exists(f"{models[0].uri}/model.onnx")


def test_a_failure_crosses_the_processes_whole(
    lake: Lake, pair: Pipeline, make_training_set: Callable[..., TrainingSet], tmp_path: Path
) -> None:
    job = _job(pair, make_training_set(lake, pair), lake, tmp_path / "work")
    lost = TemporaryError("A", found="b", wanted="c", remedy="d")
    memory = OutOfMemory("Memory", found="none", wanted="some", remedy="halve", details="long")
    job.write_failure(lost)
    assert not job.failed_for_good
    job.write_failure(memory)
    job.write_failure(ConfigurationError("E", found="f", wanted="g", remedy="h"))
    read = job.read_failure()
    assert (type(read), str(read)) == (OutOfMemory, str(memory))
    assert read.details == "long"
    again = subprocess.run(torchrun(1, None, job), env=environment({}), capture_output=True)
    assert again.returncode == 0
    assert not job.has_model


def test_one_process_alone_out_of_memory_ends_the_run(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    stand_in: Callable[..., None],
) -> None:
    stand_in("one_out_of_memory", NCCL_WAITS=str(NCCL_WAITS))
    training_set, started = make_training_set(lake, pair), time.monotonic()
    with pytest.raises(OutOfMemory, match="Memory: found none"):
        _train(pair, training_set, lake, tmp_path / "work")
    assert time.monotonic() - started < NCCL_WAITS


def test_memory_that_ran_out_on_one_machine_ends_the_run_on_all(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    stand_in: Callable[..., None],
) -> None:
    stand_in("one_out_of_memory", NCCL_WAITS=str(NCCL_WAITS))
    training_set = make_training_set(lake, pair)
    jobs = [_job(pair, training_set, lake, tmp_path / f"machine-{index}") for index in range(2)]
    running = []
    endpoint = f"127.0.0.1:{free_port()}"
    for index, job in enumerate(jobs):
        place = Rendezvous(nodes=2, index=index, endpoint=endpoint, address="127.0.0.1")
        running.append(subprocess.Popen(torchrun(1, place, job), env=environment({})))
    try:
        assert [process.wait(timeout=NCCL_WAITS) for process in running] == [0, 0]
    finally:
        for process in running:
            process.terminate()
            process.wait()
    assert [type(job.read_failure()) for job in jobs] == [OutOfMemory, OutOfMemory]


def test_a_model_that_was_stored_is_not_thrown_away_by_sigterm(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    stand_in: Callable[..., None],
) -> None:
    training_set = make_training_set(lake, pair)
    one_epoch = pair.model_copy(update={"training": pair.training.model_copy(update={"max_epochs": 1})})
    stored = _train(one_epoch, training_set, lake, tmp_path / "stored", halvings=1)
    config = json.loads(lake.objects.get(f"{stored.uri}/config.json"))
    assert config["training"]["micro_batch_rows"] == 16  # half of a share of 32
    stand_in("ended_after_the_model", STEP=str(os.getpid()), STORED_MODEL=stored.to_json())
    (tmp_path / "ended").mkdir()
    assert train(one_epoch, training_set, lake, work=tmp_path / "ended") == stored


def test_an_xla_device_is_refused_before_it_is_opened(
    lake: Lake,
    pair: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(**_: object) -> torch.device:
        raise AssertionError("a TPU belongs to the process that opens it")

    monkeypatch.setattr(launch, "choose_device", opened)
    with pytest.raises(ConfigurationError, match=r"training\.parallel\.strategy: found data on an xla device"):
        train(pair, make_training_set(lake, pair), lake, work=tmp_path, expected_device="xla")
