"""The Keras trainer keeps the trainer contract: receipts in, a verified model and its receipt out, the same gate."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.evaluation.evaluate import evaluate
from evergreen.evaluation.gate import decide
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import require_receipt, write_receipt
from evergreen.pipeline import Pipeline
from evergreen.training.scorer import Scorer

INCLUDE = Path(__file__).resolve().parents[2] / "include"


@pytest.fixture(scope="module")
def keras_python() -> str:
    """The Python of an environment with docker/keras/requirements.txt."""
    python = INCLUDE.parent / ".venv-keras" / "bin" / "python"
    if not python.exists():
        pytest.skip("no .venv-keras with Keras and TensorFlow here: `make keras` makes it")
    return str(python)


@pytest.fixture
def training_set(lake: Lake, tiny: Pipeline, make_training_set: Callable[..., TrainingSet]) -> TrainingSet:
    """A small training set, and the spec beside it as the training task leaves it."""
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    return make_training_set(lake, tiny)


def _train(python: str, lake: Lake, training_set: TrainingSet, run: str) -> subprocess.CompletedProcess[str]:
    upstream = Receipt(
        pipeline="fraud",
        run="r",
        task="build_training_set",
        attempt=1,
        inputs={},
        result={"TrainingSet": training_set.model_dump(mode="json")},
        spec_digest="0",
        code_version="0",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
    command = [python, "-m", "keras_trainer", "train", "--pipeline", "specs/tiny.json", "--run", run]
    command += ["--task", "train", "--attempt", "1", "--inputs", write_receipt(lake, upstream), "--fresh", "True"]
    environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(INCLUDE)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_model_of_keras_passes_the_same_gate_and_serves(
    keras_python: str, lake: Lake, tiny: Pipeline, training_set: TrainingSet, make_rows: Callable[..., pl.DataFrame]
) -> None:
    done = _train(keras_python, lake, training_set, "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 1 of 5" in done.stdout
    model = Model.model_validate(require_receipt(lake, "fraud", "one", "train", 1).result["Model"])
    evaluation = evaluate(tiny, model, training_set, lake)
    gate = tiny.gate.model_copy(update={"minimum": {"roc_auc": 0.6}, "min_positives": 5})
    assert decide(tiny.model_copy(update={"gate": gate}), evaluation).approved
    rows = make_rows(50, seed=3).with_columns(amount=pl.lit(None, pl.Float64), merchant_id=pl.lit("never seen"))
    scores = Scorer.load(lake, model.uri, model.digest).score(rows)
    assert scores.shape == (50,)
    assert np.isfinite(scores).all()


def test_same_inputs_and_seed_give_the_same_version(keras_python: str, lake: Lake, training_set: TrainingSet) -> None:
    versions = set()
    for run in ("one", "two"):
        done = _train(keras_python, lake, training_set, run)
        assert done.returncode == 0, done.stdout + done.stderr
        versions.add(str(require_receipt(lake, "fraud", run, "train", 1).result["Model"]))
    assert len(versions) == 1


def test_one_class_only_is_bad_data(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
) -> None:
    lake.objects.put("specs/tiny.json", tiny.model_dump_json().encode())
    clean = make_rows(300).with_columns(label=pl.lit(0, pl.Int8))
    done = _train(keras_python, lake, make_training_set(lake, tiny, train=clean), "one")
    assert done.returncode == 65
    assert "Labels of the train part" in done.stdout
