"""A training whose inputs, spec and code are unchanged is not done again, and its receipt says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import receipt_path, require_receipt
from evergreen.pipeline import Pipeline
from upstream import write_upstream_receipt

TrainPod = Callable[..., subprocess.Popen[str]]
Ended = subprocess.CompletedProcess[str]
OWN = '''
from os import environ
from pathlib import Path
from tempfile import mkdtemp

import click

from evergreen import step
from evergreen.artifacts import TrainingSet
from evergreen.step import run_step, training_options
from evergreen.training.model_files import store_model

LEARNED = "this"


@click.group()
def main():
    """A trainer of one's own that learns nothing."""


@main.command()
@training_options
def train(seed, run_type, halvings, **options):
    def work(step):
        folder, given = Path(mkdtemp()), step.take(TrainingSet)
        (folder / "model.onnx").write_text(LEARNED)
        (folder / "signature.json").write_text("{}")
        if "CONFIG" in environ:
            (folder / "config.json").write_text(environ["CONFIG"])
        return store_model(
            step.lake, folder, pipeline="fraud", as_of=given.as_of, training_set=given.digest, seed=7
        )

    libraries = ("click", "not-installed")
    step.RECEIPT_SECONDS = int(environ.get("PATIENCE", "300"))
    run_step(work, halvings=halvings, trainer=Path(__file__).parent, libraries=libraries, **options)


main()
'''


@pytest.fixture
def own_trainer(tmp_path: Path) -> Path:
    """A file of the package `own`, which keeps the trainer contract."""
    path = tmp_path / "trainers" / "own" / "__main__.py"
    path.parent.mkdir(parents=True)
    path.write_text(OWN)
    return path


@pytest.fixture
def train_pod(
    lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet], own_trainer: Path
) -> Iterator[TrainPod]:
    """Starts one of two pods that train together, in the trainer of one's own."""
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    upstream = write_upstream_receipt(lake, tiny, make_training_set(lake, tiny))
    started: list[subprocess.Popen[str]] = []

    def start(*, index: int, patience: int = 600) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "own", "train", "--pipeline", "specs/tiny.json", "--run", "together"]
        command += ["--task", "train", "--attempt", "1", "--inputs", upstream]
        environment = {
            "EVERGREEN_LAKE_URL": lake.url,
            "EVERGREEN_NODES": "2",
            "EVERGREEN_RENDEZVOUS": "first:29400",
            "JOB_COMPLETION_INDEX": str(index),
            "PATH": "/usr/bin:/bin",
            "PATIENCE": str(patience),
            "PYTHONPATH": str(own_trainer.parents[1]),
        }
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for pod in started:
        pod.kill()
        pod.communicate()


@pytest.fixture
def train_step(lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet]) -> Callable[..., Ended]:
    """Runs the training step as a pod does, for a run of the given name, to its end."""
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    upstream = write_upstream_receipt(lake, tiny, make_training_set(lake, tiny))

    def run(name: str, *options: str, module: str = "evergreen.step", **variables: str) -> Ended:
        command = [sys.executable, "-m", module, "train", "--pipeline", "specs/tiny.json", "--run", name]
        command += ["--task", "train", "--attempt", "1", "--inputs", upstream, *options]
        environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin"} | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def train(lake: Lake, train_step: Callable[..., Ended]) -> Callable[..., Receipt]:
    """Runs the training step, which must end well; its verified receipt."""

    def run(name: str, *options: str, module: str = "evergreen.step", **variables: str) -> Receipt:
        done = train_step(name, *options, module=module, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return require_receipt(lake, "fraud", name, "train", 1)

    return run


def test_unchanged_training_is_reused_and_says_of_whom(train: Callable[..., Receipt]) -> None:
    first, second = train("one"), train("two")
    assert first.reused is None
    assert second.reused == receipt_path("fraud", "one", "train", 1)
    assert second.result == first.result
    assert second.objects == first.objects


def test_another_seed_is_another_training(train: Callable[..., Receipt]) -> None:
    train("one")
    other = train("two", "--seed", "99")
    assert other.reused is None
    assert Model.model_validate(other.result["Model"]).seed == 99


@pytest.mark.parametrize(("first", "second"), [("ordinary", "backfill"), ("backfill", "ordinary")])
def test_backfill_and_nightly_run_share_a_training_and_each_says_what_it_is(
    train: Callable[..., Receipt], first: str, second: str
) -> None:
    receipts = [train(kind, "--run-type", kind) for kind in (first, second, first)]
    assert [receipt.reused is None for receipt in receipts] == [True, False, False]
    models = [Model.model_validate(receipt.result["Model"]) for receipt in receipts]
    assert [model.backfill for model in models] == [kind == "backfill" for kind in (first, second, first)]
    assert len({model.digest for model in models}) == 1


def test_edited_trainer_of_ones_own_is_run_again(train: Callable[..., Receipt], own_trainer: Path) -> None:
    place = {"module": "own", "PYTHONPATH": str(own_trainer.parents[1])}
    first, second = train("one", **place), train("two", **place)
    assert second.reused == receipt_path("fraud", "one", "train", 1)
    assert first.environment["click"]
    own_trainer.write_text(OWN.replace('"this"', '"another"'))
    third = train("three", **place)
    assert third.reused is None
    assert third.code_digest != second.code_digest
    assert third.result != second.result


def test_receipt_says_what_its_time_cost_by_price_and_watts(train: Callable[..., Receipt], own_trainer: Path) -> None:
    place = {"module": "own", "PYTHONPATH": str(own_trainer.parents[1])}
    receipt = train("one", EVERGREEN_PRICE_PER_HOUR="3600", EVERGREEN_WATTS="7200", **place)
    assert receipt.cost == pytest.approx(receipt.seconds)
    assert receipt.energy_watt_hours == pytest.approx(2 * receipt.seconds)


def test_pod_that_pays_for_a_gpu_and_finds_none_is_refused(train_step: Callable[..., Ended], lake: Lake) -> None:
    ended = train_step("one", EVERGREEN_EXPECTED_DEVICE="xla")
    assert ended.returncode == 64, ended.stdout + ended.stderr
    assert lake.objects.list("models/") == []


def test_receipt_tells_how_often_memory_ran_out_and_in_which_image(
    train: Callable[..., Receipt], own_trainer: Path
) -> None:
    place = {"module": "own", "PYTHONPATH": str(own_trainer.parents[1])}
    receipt = train("one", "--halvings", "2", **place, EVERGREEN_TRAINER_IMAGE="example.com/own:1")
    assert (receipt.halvings, receipt.image) == (2, "example.com/own:1")


@pytest.mark.parametrize(
    ("config", "device"),
    [
        ({"CONFIG": '{"device": "cuda", "seed": 7}'}, "cuda"),
        ({"CONFIG": '{"seed": 7}'}, "cpu"),
        ({"CONFIG": '{"device": ["cuda"]}'}, "cpu"),
        ({"CONFIG": "device: cuda"}, "cpu"),
        ({}, "cpu"),
    ],
    ids=["cuda", "none", "another shape", "no JSON", "no file"],
)
def test_receipt_tells_the_device_that_the_model_was_trained_on(
    train: Callable[..., Receipt], own_trainer: Path, config: dict[str, str], device: str
) -> None:
    place = {"module": "own", "PYTHONPATH": str(own_trainer.parents[1])}
    first, second = train("one", **place, **config), train("two", **place)
    assert (first.device, second.device) == (device, device)
    assert second.reused is not None


def test_altered_model_is_trained_again_to_the_same_bytes(train: Callable[..., Receipt], lake: Lake) -> None:
    first = train("one")
    model = Model.model_validate(first.result["Model"])
    lake.objects.put(f"{model.uri}/model.onnx", b"not the model")
    second = train("two")
    assert second.reused is None
    assert second.result == first.result


def test_fresh_trains_again(train: Callable[..., Receipt]) -> None:
    first, second = train("one"), train("two", "--fresh", "True")
    assert second.reused is None
    assert second.result == first.result
    assert second.code_digest == first.code_digest != ""
    assert second.environment["torch"]
    assert second.hardware


def test_a_pod_beside_the_first_ends_once_the_receipt_is_written(lake: Lake, train_pod: TrainPod) -> None:
    beside = train_pod(index=1)
    with pytest.raises(subprocess.TimeoutExpired):
        beside.wait(5)
    assert train_pod(index=0).wait(240) == 0
    written = require_receipt(lake, "fraud", "together", "train", 1)
    assert beside.wait(240) == 0
    (remembered,) = lake.objects.list("reuse")
    lake.objects.delete(remembered)
    assert train_pod(index=0).wait(240) == train_pod(index=1).wait(240) == 0  # lost on their last steps
    assert require_receipt(lake, "fraud", "together", "train", 1) == written
    assert lake.objects.list("reuse") == [remembered]


def test_a_pod_beside_the_first_tries_again_when_that_one_was_lost_before_its_receipt(train_pod: TrainPod) -> None:
    beside = train_pod(index=1, patience=1)
    assert beside.wait(240) == 75
    assert beside.stdout is not None
    assert "none from the pod of index 0, 1 seconds after" in beside.stdout.read().splitlines()[-1]


def test_pods_together_take_no_other_training_for_their_own(
    lake: Lake, train: Callable[..., Receipt], train_pod: TrainPod, own_trainer: Path
) -> None:
    train("one", module="own", PYTHONPATH=str(own_trainer.parents[1]))
    train("together")  # of another trainer, under the name of the pods' run
    beside, first = train_pod(index=1), train_pod(index=0)
    assert first.wait(240) == beside.wait(240) == 0
    receipt = require_receipt(lake, "fraud", "together", "train", 1)
    assert receipt.reused is None
    assert "click" in receipt.environment
