"""A training whose inputs, spec and code are unchanged is not done again, and its receipt says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.errors import NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import receipt_path, require_receipt
from evergreen.pipeline import Pipeline
from upstream import write_upstream_receipt


@pytest.fixture
def train(lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet]) -> Callable[..., Receipt]:
    """Runs the training step as a pod does, for a run of the given name; its verified receipt."""
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    upstream = write_upstream_receipt(lake, tiny, make_training_set(lake, tiny))

    def run(name: str, *options: str, **variables: str) -> Receipt:
        command = [sys.executable, "-m", "evergreen.step", "train", "--pipeline", "specs/tiny.json", "--run", name]
        command += ["--task", "train", "--attempt", "1", "--inputs", upstream, *options]
        environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin"} | variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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


def test_a_pod_beside_the_first_leaves_the_receipt_of_a_reused_training_to_it(train: Callable[..., Receipt]) -> None:
    train("one")
    place = {"EVERGREEN_RENDEZVOUS": "first:29400", "EVERGREEN_NODES": "2"}
    with pytest.raises(NotFound):
        train("two", **place, JOB_COMPLETION_INDEX="1")
    assert train("two", **place, JOB_COMPLETION_INDEX="0").reused == receipt_path("fraud", "one", "train", 1)
