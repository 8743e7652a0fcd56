"""A version made again from its receipts is identical, or the first thing that differs is named with its reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree, rmtree

import polars as pl
import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.errors import ConfigurationError, IntegrityError, LakeUnavailable, NotFound, OutOfMemory
from evergreen.features.build import refresh_features
from evergreen.features.training_set import build_training_set
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of
from evergreen.lake.receipts import receipt_path, require_receipt, write_receipt
from evergreen.pipeline import Pipeline
from evergreen.replay.comparison import Comparison
from evergreen.replay.replay import first_difference, replay
from evergreen.replay.trail import find_trail
from evergreen.settings import Settings
from evergreen.training.state import EpochResult
from evergreen.training.train import train
from shop import FIRST, orders

INCLUDE = Path(__file__).resolve().parents[2] / "include"
KERAS = INCLUDE.parent / ".venv-keras"
OWN = """
import sys

from evergreen.step import main

assert sys.argv[1] == "train"
main([*sys.argv[1:], "--micro-batch-rows", "16"])
"""
"""A trainer whose model differs from the one that evergreen.step makes by itself."""
DAYS = [FIRST + timedelta(days=n) for n in range(7)]
AS_OF = DAYS[-1]


@pytest.fixture
def quick(shop: Pipeline) -> Pipeline:
    """The shop, learning in a second or two."""
    training = shop.training.model_copy(update={"hidden": (8,), "max_epochs": 2, "batch_rows": 64, "threads": 1})
    return shop.model_copy(update={"training": training})


@pytest.fixture
def history(write_clean: Callable[..., object], write_labels: Callable[..., object]) -> None:
    """A week of orders, every fifth of which came back."""
    for day in DAYS:
        write_clean(day)
        write_labels(day, [(f"{day}-{n}", 1, 23) for n in range(0, 60, 5)])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lake with the model lies that the first test who wants it trains."""
    return tmp_path_factory.mktemp("kept") / "lake"


@pytest.fixture
def trained(quick: Pipeline, history: None, lake: Lake, kept: Path) -> Model:
    """A model of that week, made by the training step, with the receipts that say so, in a lake of the test's own."""
    folder = Path(lake.url.removeprefix("file://"))
    if not kept.exists():
        _train(quick, lake)
        copytree(folder, kept)
    else:
        rmtree(folder)
        copytree(kept, folder)
    return Model.model_validate(_training_receipt(lake).result["Model"])


@pytest.fixture
def own_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that keeps the trainer contract, where this process and those it starts find it."""
    (tmp_path / "own_trainer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "own_trainer"


def _commanded(pipeline: Pipeline, *command: str) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"command": command})})


def _train(
    pipeline: Pipeline, lake: Lake, *options: str, by: tuple[str, ...] = (sys.executable, "-m", "evergreen.step")
) -> Model:
    lake.objects.put(f"specs/shop/{pipeline.digest}.json", pipeline.model_dump_json().encode())
    path = write_receipt(lake, _receipt(pipeline, build_training_set(pipeline, AS_OF, lake), lake))
    command = [*by, "train", "--pipeline", f"specs/shop/{pipeline.digest}.json"]
    command += ["--run", "shop.train_model.r", "--task", "train", "--attempt", "1", "--inputs", path, *options]
    variables = os.environ | {"EVERGREEN_LAKE_URL": lake.url}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Model.model_validate(_training_receipt(lake).result["Model"])


def _training_receipt(lake: Lake) -> Receipt:
    return require_receipt(lake, "shop", "shop.train_model.r", "train", 1)


def _receipt(pipeline: Pipeline, training_set: TrainingSet, lake: Lake) -> Receipt:
    return Receipt(
        pipeline="shop",
        run="shop.train_model.r",
        task="build_training_set",
        attempt=1,
        inputs={},
        objects=tuple(objects_of(training_set, lake)),
        result={"TrainingSet": training_set.model_dump(mode="json")},
        spec_digest=pipeline.digest,
        code_version="0",
        started_at=datetime(2026, 11, 8, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )


def _replayed(lake: Lake, model: Model, tmp_path: Path) -> list[Comparison]:
    settings = Settings.from_environment({"EVERGREEN_HOME": str(tmp_path), "EVERGREEN_LAKE_URL": lake.url})
    return replay(find_trail(lake, "shop", model.version), lake, settings)


def test_untouched_history_gives_the_identical_model(lake: Lake, trained: Model, tmp_path: Path) -> None:
    comparisons = _replayed(lake, trained, tmp_path)
    assert first_difference(comparisons) is None
    assert {"training set/train", "model/model.onnx", "model/weights.safetensors"} <= {c.thing for c in comparisons}


def test_rows_that_came_later_do_not_change_what_was_known_then(
    lake: Lake, trained: Model, tmp_path: Path, write_clean: Callable[..., object]
) -> None:
    late = orders(DAYS[2], seed=5).head(3)
    afterwards = (pl.col("known_at") + pl.duration(days=30)).alias("known_at")
    late = late.with_columns(afterwards, (pl.col("order") + "-late").alias("order"))
    write_clean(DAYS[2], pl.concat([orders(DAYS[2]), late]).sort("event_time"))
    assert first_difference(_replayed(lake, trained, tmp_path)) is None


def test_rewritten_history_is_named_as_data(
    lake: Lake, trained: Model, tmp_path: Path, write_clean: Callable[..., object]
) -> None:
    write_clean(DAYS[2], orders(DAYS[2], seed=9))
    different = first_difference(_replayed(lake, trained, tmp_path))
    assert different is not None
    assert different.thing == "training set/train"
    assert different.why.startswith("data")


def test_features_that_are_defined_otherwise_now_are_left_as_they_are(
    lake: Lake, quick: Pipeline, trained: Model, tmp_path: Path
) -> None:
    features = quick.features.model_copy(update={"expressions": {"amount": "cents", "share": "cents / cents_2d"}})
    refresh_features(quick.model_copy(update={"features": features}), lake, DAYS[0], DAYS[-1])
    before = _published(lake)
    assert first_difference(_replayed(lake, trained, tmp_path)) is None
    assert _published(lake) == before


def _published(lake: Lake) -> dict[str, str]:
    """Digests of all that ingestion, other trainings and drift checks read of features."""
    paths = [*lake.objects.list("features"), *lake.objects.list("feature_builds")]
    return {path: lake.objects.digest(path) for path in paths}


def test_other_code_libraries_and_hardware_are_named_where_the_model_differs(
    lake: Lake, quick: Pipeline, history: None, tmp_path: Path
) -> None:
    """The recorded model has other weights (those of another seed), and its receipt was written elsewhere."""
    model = _train(quick, lake, "--seed", "8").model_copy(update={"seed": quick.training.seed})
    path = receipt_path("shop", "shop.train_model.r", "train", 1)
    receipt = Receipt.from_json(lake.objects.get(path))
    older = {
        "environment": receipt.environment | {"torch": "2.0.0"},
        "code_digest": "0" * 64,
        "hardware": "an abacus",
        "device": "xla",
        "result": {"Model": model.model_dump(mode="json")},
    }
    lake.objects.put(path, receipt.model_copy(update=older).to_json().encode())
    comparisons = _replayed(lake, model, tmp_path)
    assert {c.thing for c in comparisons if c.identical} >= {"training set/train", "model/signature.json"}
    weights = next(c for c in comparisons if c.thing == "model/weights.safetensors")
    for said in (
        "environment (torch 2.0.0 then",
        "sources 000000000000 then",
        "hardware (an abacus then",
        "device (xla",
    ):
        assert said in weights.why
    done = _command(lake, model, tmp_path)
    assert done.returncode == 1
    assert f"{model.version} differs first at model/" in done.stdout
    assert "hardware (an abacus then" in done.stdout


def test_training_that_ran_out_of_memory_is_made_again_as_it_went_on(
    lake: Lake, quick: Pipeline, history: None, tmp_path: Path
) -> None:
    model = _train(quick, lake, "--halvings", "2")
    assert json.loads(lake.objects.get(f"{model.uri}/config.json"))["training"]["micro_batch_rows"] == 16
    assert first_difference(_replayed(lake, model, tmp_path)) is None


def test_steps_taken_otherwise_on_the_way_are_named(lake: Lake, quick: Pipeline, history: None, tmp_path: Path) -> None:
    """Memory runs out after the first epoch of two: the try after it goes on with fewer rows at once."""

    def run_out(_: EpochResult) -> None:
        raise OutOfMemory("Memory", found="none", wanted="some", remedy="halve", details="")

    with pytest.raises(OutOfMemory):
        train(quick, build_training_set(quick, AS_OF, lake), lake, work=tmp_path, on_progress=run_out)
    model = _train(quick, lake, "--halvings", "2")
    different = first_difference(_replayed(lake, model, tmp_path))
    assert different is not None
    steps = re.fullmatch(
        r"steps \(from 0 by 1 x 64 rows at once, from (\d+) by 1 x 16 rows at once then, "
        r"from 0 by 1 x 16 rows at once now\)",
        different.why,
    )
    assert steps is not None, different.why
    assert int(steps[1]) > 0


def test_lake_that_does_not_answer_is_no_difference(
    lake: Lake, trained: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> TrainingSet:
        raise LakeUnavailable("Lake", found="no answer", wanted="one", remedy="Try again.")

    monkeypatch.setattr("evergreen.replay.replay.build_training_set", unavailable)
    with pytest.raises(LakeUnavailable):
        _replayed(lake, trained, tmp_path)


def test_receipt_without_halvings_had_none(quick: Pipeline, history: None, lake: Lake) -> None:
    receipt = _receipt(quick, build_training_set(quick, AS_OF, lake), lake)
    assert Receipt.from_json(receipt.model_dump_json(exclude={"halvings"})) == receipt
    assert receipt.halvings == 0


def test_version_of_ones_own_trainer_is_made_again_by_that_trainer(
    lake: Lake, quick: Pipeline, history: None, own_trainer: str, tmp_path: Path
) -> None:
    model = _train(_commanded(quick, "python", "-m", own_trainer), lake, by=(sys.executable, "-m", own_trainer))
    assert first_difference(_replayed(lake, model, tmp_path)) is None


@pytest.mark.parametrize(
    ("command", "libraries", "absent"),
    [
        (("/nowhere/trainer",), {}, "/nowhere/trainer"),
        (("python", "-m", "nowhere.trainer"), {}, "nowhere"),
        (("python", "-m", "evergreen.step"), {"keras": "3.15.1", "tf2onnx": "1.17.0"}, "keras, tf2onnx"),
    ],
    ids=["program", "module", "libraries"],
)
def test_trainer_that_cannot_run_here_is_refused_before_anything_is_made(
    lake: Lake,
    quick: Pipeline,
    trained: Model,
    tmp_path: Path,
    command: tuple[str, ...],
    libraries: dict[str, str],
    absent: str,
) -> None:
    spec, receipt = _commanded(quick, *command), _training_receipt(lake)
    lake.objects.put(f"specs/shop/{spec.digest}.json", spec.model_dump_json().encode())
    changed = {"spec_digest": spec.digest, "environment": receipt.environment | libraries}
    write_receipt(lake, receipt.model_copy(update=changed))
    before = lake.objects.list("")
    with pytest.raises(ConfigurationError, match=f"found no {absent} here, wanted what its trainer ran with"):
        _replayed(lake, trained, tmp_path)
    assert lake.objects.list("") == before


def test_version_of_keras_is_made_again_where_its_libraries_are(
    lake: Lake, quick: Pipeline, history: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (KERAS / "bin" / "python").exists():
        pytest.skip("no .venv-keras with Keras and TensorFlow here: `make keras` makes it")
    monkeypatch.setenv("PYTHONPATH", str(INCLUDE))
    spec = _commanded(quick, "python", "-m", "keras_trainer")
    model = _train(spec, lake, by=(str(KERAS / "bin" / "python"), "-m", "keras_trainer"))
    with pytest.raises(ConfigurationError, match="found no keras, tensorflow-cpu, tf2onnx here"):
        _replayed(lake, model, tmp_path)
    (libraries,) = (KERAS / "lib").glob("python3.*/site-packages")
    done = _command(lake, model, tmp_path, PYTHONPATH=f"{INCLUDE}:{libraries}")
    assert done.stdout.strip().endswith("IDENTICAL"), done.stdout + done.stderr


def test_altered_model_is_refused_before_it_is_compared(lake: Lake, trained: Model, tmp_path: Path) -> None:
    lake.objects.put(f"{trained.uri}/manifest.json", b"{}")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        _replayed(lake, trained, tmp_path)


def test_unknown_version_is_said_so(lake: Lake) -> None:
    with pytest.raises(NotFound, match="no receipt of a training that made it"):
        find_trail(lake, "shop", "2026-01-01-00000000")


def _command(lake: Lake, model: Model, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """What a person sees who types `evergreen replay`."""
    command = [sys.executable, "-m", "evergreen.cli", "replay", model.version, "--pipeline", "shop"]
    variables = os.environ | {"EVERGREEN_LAKE_URL": lake.url, "EVERGREEN_HOME": str(tmp_path / "home")} | more
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_command_prints_identical(lake: Lake, trained: Model, tmp_path: Path) -> None:
    done = _command(lake, trained, tmp_path)
    assert done.stdout.strip().endswith("IDENTICAL"), done.stdout + done.stderr
