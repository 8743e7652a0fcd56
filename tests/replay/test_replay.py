"""A version made again from its receipts is identical, or the first thing that differs is named with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.errors import IntegrityError, NotFound
from evergreen.features.training_set import build_training_set
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of
from evergreen.lake.receipts import receipt_path, require_receipt, write_receipt
from evergreen.pipeline import Pipeline
from evergreen.replay.comparison import Comparison
from evergreen.replay.replay import first_difference, replay
from evergreen.replay.trail import find_trail
from evergreen.settings import Settings
from shop import FIRST, orders

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


@pytest.fixture
def trained(quick: Pipeline, history: None, lake: Lake) -> Model:
    """A model of that week, made by the training step, with the receipts that say so."""
    return _train(quick, lake)


def _train(pipeline: Pipeline, lake: Lake, *options: str) -> Model:
    lake.objects.put(f"specs/shop/{pipeline.digest}.json", pipeline.model_dump_json().encode())
    path = write_receipt(lake, _receipt(pipeline, build_training_set(pipeline, AS_OF, lake), lake))
    command = [sys.executable, "-m", "evergreen.step", "train", "--pipeline", f"specs/shop/{pipeline.digest}.json"]
    command += ["--run", "shop.train_model.r", "--task", "train", "--attempt", "1", "--inputs", path, *options]
    variables = os.environ | {"EVERGREEN_LAKE_URL": lake.url}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Model.model_validate(require_receipt(lake, "shop", "shop.train_model.r", "train", 1).result["Model"])


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


def test_other_libraries_are_named_where_the_model_differs(
    lake: Lake, quick: Pipeline, history: None, tmp_path: Path
) -> None:
    """The recorded model has other weights (those of another seed), and its receipt names an older torch."""
    model = _train(quick, lake, "--seed", "8").model_copy(update={"seed": quick.training.seed})
    path = receipt_path("shop", "shop.train_model.r", "train", 1)
    receipt = Receipt.from_json(lake.objects.get(path))
    older = {
        "environment": receipt.environment | {"torch": "2.0.0"},
        "result": {"Model": model.model_dump(mode="json")},
    }
    lake.objects.put(path, receipt.model_copy(update=older).to_json().encode())
    comparisons = _replayed(lake, model, tmp_path)
    assert {c.thing for c in comparisons if c.identical} >= {"training set/train", "model/signature.json"}
    weights = next(c for c in comparisons if c.thing == "model/weights.safetensors")
    assert "environment (torch 2.0.0 then" in weights.why


def test_altered_model_is_refused_before_it_is_compared(lake: Lake, trained: Model, tmp_path: Path) -> None:
    lake.objects.put(f"{trained.uri}/manifest.json", b"{}")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        _replayed(lake, trained, tmp_path)


def test_unknown_version_is_said_so(lake: Lake) -> None:
    with pytest.raises(NotFound, match="no receipt of a training that made it"):
        find_trail(lake, "shop", "2026-01-01-00000000")


def test_command_prints_identical(lake: Lake, trained: Model, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evergreen.cli", "replay", trained.version, "--pipeline", "shop"]
    variables = os.environ | {"EVERGREEN_LAKE_URL": lake.url, "EVERGREEN_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("IDENTICAL"), done.stdout + done.stderr
