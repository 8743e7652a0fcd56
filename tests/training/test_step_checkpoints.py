"""Checkpoints stay until the model is proven: whatever ends the step before, the next try does not train again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evergreen.artifacts import Model, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import require_receipt
from evergreen.pipeline import Pipeline
from evergreen.training.checkpoint_folder import checkpoint_folder
from evergreen.training.recipe import Recipe
from upstream import write_upstream_receipt

Step = Callable[..., subprocess.CompletedProcess[str]]
TRY = ("try", "--configuration", "{}", "--epochs", "2")


@pytest.fixture
def step(lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet]) -> Step:
    """Runs a step as a pod does, for a run of the given name."""
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    upstream = write_upstream_receipt(lake, tiny, make_training_set(lake, tiny))

    def run(name: str, *words: str, attempt: int = 1, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "evergreen.step", *(words or ("train",)), "--pipeline", "specs/tiny.json"]
        command += ["--run", name, "--task", "train", "--attempt", str(attempt), "--inputs", upstream]
        environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin"} | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def _model(lake: Lake, name: str, attempt: int = 1) -> Model:
    return Model.model_validate(require_receipt(lake, "fraud", name, "train", attempt).result["Model"])


@pytest.mark.parametrize("refused", ["receipts/fraud/one", "reuse"])
def test_a_step_that_could_not_prove_its_model_makes_it_again_without_training(
    lake: Lake, step: Step, tmp_path: Path, refused: str
) -> None:
    in_the_way = tmp_path / "lake" / refused  # a file where the step wants a folder
    in_the_way.write_text("")
    first = step("one")
    assert first.returncode == 75, first.stdout + first.stderr
    assert "epoch 5/5" in first.stdout
    assert [Path(path).name for path in lake.objects.list("checkpoints")] == ["epoch-000004.ckpt", "epoch-000005.ckpt"]
    in_the_way.unlink()
    second = step("one", attempt=2)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed after epoch 5" in second.stdout
    assert "epoch 1/5" not in second.stdout
    assert lake.objects.list("checkpoints") == []
    whole = step("two", "train", "--fresh", "True")
    assert "epoch 5/5" in whole.stdout
    assert _model(lake, "two") == _model(lake, "one", attempt=2)


def test_a_run_told_to_work_again_goes_on_from_itself_alone(lake: Lake, step: Step, tmp_path: Path) -> None:
    again, ways = ("train", "--fresh", "True"), [tmp_path / "lake" / "receipts" / "fraud" / name for name in "ab"]
    for way in ways:
        way.write_text("")  # a file where the step wants a folder: it trains, and cannot prove it
    assert "epoch 5/5" in step("a").stdout
    first = step("b", *again)
    assert "epoch 1/5" in first.stdout
    assert "resumed" not in first.stdout
    for way in ways:
        way.unlink()
    second = step("b", *again, attempt=2)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed after epoch 5" in second.stdout


def test_a_pod_of_a_job_told_to_work_again_goes_on_although_it_has_one_number(
    lake: Lake, step: Step, tmp_path: Path
) -> None:
    job = {"EVERGREEN_RENDEZVOUS": "pod-0:29400", "EVERGREEN_NODES": "1", "EVERGREEN_NODE_INDEX": "0"}
    way = tmp_path / "lake" / "receipts" / "fraud" / "one"
    way.write_text("")
    assert "epoch 5/5" in step("one", "train", "--fresh", "True", **job).stdout
    way.unlink()
    again = step("one", "train", "--fresh", "True", **job)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resumed after epoch 5" in again.stdout


def test_a_reused_result_leaves_no_checkpoint_either(lake: Lake, step: Step) -> None:
    """The step ended after it had remembered its result, and before it had cleared."""
    assert step("one").returncode == 0
    model = _model(lake, "one")
    recipe = Recipe.model_validate_json(lake.objects.get(f"{model.uri}/config.json"))
    lake.objects.put(f"{checkpoint_folder(model.training_set, recipe)}/epoch-000005.ckpt", b"left over")
    second = step("one", attempt=2)
    assert "reusing the result" in second.stdout
    assert lake.objects.list("checkpoints") == []


def test_a_trial_clears_its_own_checkpoints_and_no_others(lake: Lake, step: Step) -> None:
    lake.objects.put("checkpoints/fraud/another-run/epoch-000001.ckpt", b"of another trial")
    done = step("one", *TRY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lake.objects.list("checkpoints") == ["checkpoints/fraud/another-run/epoch-000001.ckpt"]
