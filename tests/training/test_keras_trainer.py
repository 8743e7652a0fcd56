"""The Keras trainer keeps the trainer contract: receipts in, a verified model and its receipt out, the same gate."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper

from evergreen.artifacts import Artifact, Configuration, Deployment, Model, Receipt, TrainingSet, Trial
from evergreen.evaluation.evaluate import evaluate
from evergreen.evaluation.gate import decide
from evergreen.evaluation.learning import read_learning
from evergreen.lake.deployments import publish_deployment
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import require_receipt, write_receipt
from evergreen.pipeline import Pipeline
from evergreen.serving.app import create_app
from evergreen.serving.config import ServingConfig
from evergreen.serving.service import Service
from evergreen.standalone.screen import example_row
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
    _specify(lake, tiny)
    return make_training_set(lake, tiny)


def _specify(lake: Lake, pipeline: Pipeline) -> None:
    lake.objects.put("specs/tiny.json", pipeline.model_dump_json().encode())


def _train(
    python: str,
    lake: Lake,
    training_set: TrainingSet,
    run: str,
    *options: str,
    step: str = "train",
    fresh: bool = True,
    attempt: int = 1,
    module: str = "keras_trainer",
    include: Path = INCLUDE,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    inputs = _prove(lake, "build_training_set", training_set)
    command = [python, "-m", module, step, "--pipeline", "specs/tiny.json", "--run", run]
    command += ["--task", "train", "--attempt", str(attempt), "--inputs", inputs, "--fresh", str(fresh), *options]
    environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(include)} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _prove(lake: Lake, task: str, artifact: Artifact) -> str:
    """Path of the receipt of an upstream task."""
    receipt = Receipt(
        pipeline="fraud",
        run="r",
        task=task,
        attempt=1,
        inputs={},
        result={type(artifact).__name__: artifact.model_dump(mode="json")},
        spec_digest="0",
        code_version="0",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
    return write_receipt(lake, receipt)


def test_model_of_keras_passes_the_same_gate_and_serves(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    training_set: TrainingSet,
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
) -> None:
    done = _train(keras_python, lake, training_set, "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"epoch 1 of 5: loss [\d.]+, validation AP [\d.]+, \d+ rows/s, ETA \d+ s", done.stdout)
    model = _model(lake, "one")
    assert json.loads(lake.objects.get(f"{model.uri}/config.json"))["device"] == "cpu"
    learned = read_learning(lake, model, None)
    assert [point.epoch for point in learned.curve] == [1, 2, 3, 4, 5]
    assert learned.best_epoch == max(learned.curve, key=lambda point: point.average_precision).epoch
    evaluation = evaluate(tiny, model, training_set, lake)
    gate = tiny.gate.model_copy(update={"minimum": {"roc_auc": 0.6}, "min_positives": 5})
    assert decide(tiny.model_copy(update={"gate": gate}), evaluation).approved
    rows = make_rows(50, seed=3).with_columns(amount=pl.lit(None, pl.Float64), merchant_id=pl.lit("never seen"))
    scores = Scorer.load(lake, model.uri, model.digest).score(rows)
    assert scores.shape == (50,)
    assert np.isfinite(scores).all()
    risky, usual = (_asked(lake, tiny, model, tmp_path / merchant, merchant) for merchant in ("m3", "m4"))
    assert (risky["version"], usual["version"]) == (model.version, model.version)
    assert 1 > risky["predictions"][0]["score"] > usual["predictions"][0]["score"] > 0


def _asked(lake: Lake, pipeline: Pipeline, model: Model, journal: Path, merchant: str) -> dict[str, Any]:
    """What the service answers a payment at `merchant` with, when `model` is deployed."""
    at = datetime(2026, 11, 10, 12, tzinfo=UTC)
    deployment = Deployment(
        pipeline="fraud",
        sequence=1,
        at=at,
        from_version=None,
        to_version=model.version,
        model_uri=model.uri,
        model_digest=model.digest,
        actor="tester",
        reason="a test",
    )
    publish_deployment(lake, deployment)
    row = example_row(pipeline) | {"merchant_id": merchant, "card_id": merchant, "event_time": at.isoformat()}
    answer = anyio.run(_predicted, Service(pipeline, lake, journal, ServingConfig()), row)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def _predicted(service: Service, row: dict[str, object]) -> httpx.Response:
    app = create_app({"fraud": service}, ServingConfig(), token=None)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        with anyio.fail_after(240):
            while (await client.get("/readyz")).status_code != 200:
                await anyio.sleep(0.02)
        return await client.post("/v1/fraud/predict", json={"rows": [row]})


def test_what_training_never_saw_meets_no_weight_that_was_never_trained(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
) -> None:
    """In training no amount is missing, `foreign` always is, every hour is the same, and channels are two."""
    _specify(lake, tiny)
    odd = {"foreign": pl.lit(None, pl.Float64), "hour": pl.lit(12.1)}
    rows = make_rows(3000).with_columns(**odd)
    done = _train(keras_python, lake, make_training_set(lake, tiny, train=rows), "one")
    assert done.returncode == 0, done.stdout + done.stderr
    model = _model(lake, "one")
    scorer, usual = Scorer.load(lake, model.uri, model.digest), make_rows(50, seed=3).with_columns(**odd)
    median = float(np.median(rows["amount"].cast(pl.Float32).to_numpy()))
    for unseen, same in (
        (pl.lit(None, pl.Float64).alias("amount"), pl.lit(median).alias("amount")),
        (pl.lit(1.0).alias("foreign"), odd["foreign"].alias("foreign")),
        (pl.lit(3.0).alias("hour"), odd["hour"].alias("hour")),
    ):
        scores = [scorer.score(usual.with_columns(change)) for change in (unseen, same)]
        np.testing.assert_allclose(*scores, rtol=1e-5)
    assert not np.allclose(*(scorer.score(make_rows(50, seed=3).with_columns(channel=pl.lit(c))) for c in ("", "chip")))
    graph = onnx.load_from_string(lake.objects.get(f"{model.uri}/model.onnx")).graph
    (channel,) = [table for t in graph.initializer if (table := numpy_helper.to_array(t)).shape == (3, 8)]
    assert (np.abs(channel) > 0).any(axis=1).tolist() == [False, True, True]


def test_same_inputs_and_seed_give_the_same_version(keras_python: str, lake: Lake, training_set: TrainingSet) -> None:
    versions = set()
    for run in ("one", "two"):
        done = _train(keras_python, lake, training_set, run)
        assert done.returncode == 0, done.stdout + done.stderr
        versions.add(str(require_receipt(lake, "fraud", run, "train", 1).result["Model"]))
    assert len(versions) == 1


@pytest.fixture
def killed(keras_python: str, lake: Lake, training_set: TrainingSet) -> Callable[[str], int]:
    """Trains until the signal of that name comes after the second epoch; how the process ended."""

    def train(by: str) -> int:
        both = f"{INCLUDE}:{Path(__file__).parent}"
        ended = _train(
            keras_python, lake, training_set, "killed", module="killed_in_keras", PYTHONPATH=both, KILLED_BY=by
        )
        return ended.returncode

    return train


@pytest.mark.parametrize(("by", "ends", "damaged"), [("SIGTERM", 75, False), ("SIGKILL", -signal.SIGKILL, True)])
def test_a_killed_training_goes_on_and_ends_at_the_same_bits(
    keras_python: str,
    lake: Lake,
    training_set: TrainingSet,
    killed: Callable[[str], int],
    by: str,
    ends: int,
    damaged: bool,
) -> None:
    assert killed(by) == ends
    left = lake.objects.list("checkpoints")
    assert [Path(path).name for path in left] == ["epoch-000001.ckpt", "epoch-000002.ckpt"]
    if damaged:
        lake.objects.put(left[1], lake.objects.get(left[1])[:-100])
    resumed = _train(keras_python, lake, training_set, "killed", attempt=2)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"resumed after epoch {1 if damaged else 2} from {left[0 if damaged else 1]}" in resumed.stdout
    assert ("does not match its digest; trying the one before" in resumed.stdout) is damaged
    assert lake.objects.list("checkpoints") == []
    _train(keras_python, lake, training_set, "whole")
    assert _model(lake, "killed", attempt=2) == _model(lake, "whole")


def test_what_a_killed_training_left_is_passed_over_where_it_does_not_fit(
    keras_python: str, lake: Lake, training_set: TrainingSet, killed: Callable[[str], int]
) -> None:
    killed("SIGTERM")
    halved = _train(keras_python, lake, training_set, "killed", "--halvings", "1", attempt=2)
    assert halved.stdout.count("is of other code, another device or other rows at once; passing it over") == 2
    assert "resumed" not in halved.stdout
    assert halved.returncode == 0, halved.stdout + halved.stderr
    killed("SIGTERM")
    again = _train(keras_python, lake, training_set, "trained-again")
    assert "epoch 1 of 5" in again.stdout
    assert lake.objects.list("checkpoints") == []


def test_one_class_only_is_bad_data(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
) -> None:
    _specify(lake, tiny)
    clean = make_rows(300).with_columns(label=pl.lit(0, pl.Int8))
    done = _train(keras_python, lake, make_training_set(lake, tiny, train=clean), "one")
    assert done.returncode == 65
    assert "Labels of the train part" in done.stdout


FEATURES = {
    "numbers only": (("amount", "card_since_last"), ()),
    "numbers and many levels": (("amount",), ("merchant_id",)),
    "one category": ((), ("channel",)),
    "many levels only": ((), ("merchant_id",)),
}


@pytest.mark.parametrize(("numeric", "categorical"), FEATURES.values(), ids=FEATURES.keys())
def test_features_of_one_kind_alone_are_learned_from_and_served(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    training_set: TrainingSet,
    make_rows: Callable[..., pl.DataFrame],
    numeric: tuple[str, ...],
    categorical: tuple[str, ...],
) -> None:
    features = tiny.features.model_copy(update={"numeric": numeric, "categorical": categorical})
    training = tiny.training.model_copy(update={"max_epochs": 1})
    gate = tiny.gate.model_copy(update={"slices": ()})
    _specify(lake, tiny.model_copy(update={"features": features, "training": training, "gate": gate}))
    done = _train(keras_python, lake, training_set, "one")
    assert done.returncode == 0, done.stdout + done.stderr
    model = _model(lake, "one")
    scores = Scorer.load(lake, model.uri, model.digest).score(make_rows(50, seed=3))
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 1


def test_rows_halved_for_want_of_memory_learn_the_same(
    keras_python: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
) -> None:
    training = tiny.training.model_copy(update={"dropout": 0.0, "max_epochs": 3})
    _specify(lake, tiny.model_copy(update={"training": training}))
    whole_batches = make_training_set(lake, tiny, train=make_rows(12 * training.batch_rows))
    scores = []
    for halvings in (0, 2):
        done = _train(keras_python, lake, whole_batches, str(halvings), "--halvings", str(halvings), "--seed", "5")
        assert done.returncode == 0, done.stdout + done.stderr
        receipt, model = require_receipt(lake, "fraud", str(halvings), "train", 1), _model(lake, str(halvings))
        resolved = json.loads(lake.objects.get(f"{model.uri}/config.json"))
        assert receipt.halvings == halvings
        assert resolved["micro_batch_rows"] == training.batch_rows >> halvings
        assert (resolved["batch_rows"], resolved["seed"]) == (training.batch_rows, 5)
        scores.append(Scorer.load(lake, model.uri, model.digest).score(make_rows(500, seed=3)))
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_a_search_tries_in_keras_and_its_choice_is_trained(
    keras_python: str, lake: Lake, tiny: Pipeline, training_set: TrainingSet
) -> None:
    tried = {"hidden": [8], "learning_rate": 0.01}
    done = _train(
        keras_python, lake, training_set, "trial", "--configuration", json.dumps(tried), "--epochs", "1", step="try"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trial = Trial.model_validate(require_receipt(lake, "fraud", "trial", "train", 1).result["Trial"])
    assert (trial.configuration, trial.epochs) == (tried, 1)
    assert 0 < trial.average_precision < 1
    chosen = _prove(
        lake, "choose_configuration", Configuration(pipeline="fraud", chosen=trial.configuration, trials=(trial,))
    )
    done = _train(keras_python, lake, training_set, "chosen", "--inputs", chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    for model, epochs in ((trial.model, 1), (_model(lake, "chosen"), tiny.training.max_epochs)):
        resolved = json.loads(lake.objects.get(f"{model.uri}/config.json"))
        assert (resolved["hidden"], resolved["learning_rate"], resolved["max_epochs"]) == ([8], 0.01, epochs)


def _model(lake: Lake, run: str, *, attempt: int = 1) -> Model:
    return Model.model_validate(require_receipt(lake, "fraud", run, "train", attempt).result["Model"])


def test_edited_network_is_trained_again(
    keras_python: str, lake: Lake, training_set: TrainingSet, tmp_path: Path
) -> None:
    for package in ("evergreen", "keras_trainer"):
        shutil.copytree(INCLUDE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    network, receipts = tmp_path / "keras_trainer" / "network.py", []
    for run in ("one", "two", "edited"):
        if run == "edited":
            network.write_text(network.read_text().replace("FURTHEST = 5.0", "FURTHEST = 1.0"))
        done = _train(keras_python, lake, training_set, run, fresh=False, include=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        receipts.append(require_receipt(lake, "fraud", run, "train", 1))
    first, second, edited = receipts
    assert (second.reused is None, second.result) == (False, first.result)
    assert edited.reused is None
    assert edited.result != first.result
    assert {"keras", "tensorflow-cpu", "tf2onnx"} <= edited.environment.keys()


def test_lack_of_memory_is_told_as_such(
    keras_python: str, lake: Lake, tiny: Pipeline, training_set: TrainingSet
) -> None:
    """One layer of the network asks for more than any machine can address."""
    training = tiny.training.model_copy(update={"hidden": (10**14,)})
    _specify(lake, tiny.model_copy(update={"training": training}))
    done = _train(keras_python, lake, training_set, "one")
    assert done.returncode == 137, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("exit 137 (out of memory: retry with half the micro-batch): Memory for training")
    assert "OOM when allocating tensor" in last


@pytest.mark.parametrize("device", ["cuda", "xla"])
def test_device_that_the_profile_asked_for_must_be_there(
    keras_python: str, lake: Lake, training_set: TrainingSet, device: str
) -> None:
    done = _train(keras_python, lake, training_set, "one", EVERGREEN_EXPECTED_DEVICE=device)
    assert done.returncode == 64, done.stdout + done.stderr
    assert f"found no {device} device that TensorFlow sees" in done.stdout.splitlines()[-1]
