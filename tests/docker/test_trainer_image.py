"""The trainer image trains, locked down, and its models score inside as they do outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO

import polars as pl
import pytest

from docker.conftest import ImagePods
from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.pipeline import Pipeline
from evergreen.settings import VERSION
from evergreen.training.scorer import Scorer

pytestmark = pytest.mark.cluster

SCORE = """
import sys
from io import BytesIO
import polars as pl
from evergreen.lake.lake import Lake
from evergreen.training.scorer import Scorer
uri, digest, rows = sys.argv[1:]
lake = Lake("file:///lake", {})
scorer = Scorer.load(lake, uri, digest)
print(scorer.score(pl.read_parquet(BytesIO(lake.objects.get(rows)))).tobytes().hex())
"""
SHIPPED = ["evergreen.features.shipped_kernels", "builtin_function_or_method"]
"""Module and type of a kernel that was compiled with the image."""
ABSENT = """
from importlib.util import find_spec
print([name for name in ("airflow", "great_expectations", "kubernetes", "pip") if find_spec(name)])
"""


def test_a_model_trained_inside_scores_the_same_inside_and_outside_to_the_bit(
    pods: ImagePods,
    trainer_image: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
) -> None:
    training_set = make_training_set(lake, tiny)
    model = _train(pods, trainer_image, lake, tiny, training_set)
    rows = f"{training_set.uri}/holdout.parquet"
    inside = pods.run(trainer_image, ["python", "-c", SCORE, model.uri, model.digest, rows], lake=lake)
    outside = Scorer.load(lake, model.uri, model.digest).score(pl.read_parquet(BytesIO(lake.objects.get(rows))))
    assert len(set(outside)) > 100
    assert inside.split()[-1] == outside.tobytes().hex()


def test_nothing_of_the_orchestrator_is_in_the_trainer_image(pods: ImagePods, trainer_image: str) -> None:
    assert pods.run(trainer_image, ["python", "-c", ABSENT]).strip() == "[]"


def test_compiled_kernels_come_with_the_trainer_image(pods: ImagePods, trainer_image: str) -> None:
    program = "from evergreen.features.kernels import trailing_sums as f; print(f.__module__, type(f).__name__)"
    assert pods.run(trainer_image, ["python", "-c", program]).split() == SHIPPED


def _train(pods: ImagePods, image: str, lake: Lake, pipeline: Pipeline, training_set: TrainingSet) -> Model:
    spec = f"specs/{pipeline.pipeline}/{pipeline.digest}.json"
    lake.objects.put(spec, pipeline.model_dump_json().encode())
    receipt = write_receipt(lake, _receipt(pipeline, training_set))
    command = ["python", "-m", "evergreen.step", "train", "--pipeline", spec, "--inputs", receipt]
    log = pods.run(image, [*command, "--run", "r", "--task", "train", "--attempt", "1"], lake=lake)
    written = json.loads(lake.objects.get(log.splitlines()[-1].split()[1]))
    return Model.model_validate(written["result"]["Model"])


def _receipt(pipeline: Pipeline, training_set: TrainingSet) -> Receipt:
    return Receipt(
        pipeline=pipeline.pipeline,
        run="r",
        task="build_training_set",
        attempt=1,
        inputs={},
        spec_digest=pipeline.digest,
        result={"TrainingSet": training_set.model_dump(mode="json")},
        code_version=VERSION,
        started_at=datetime(2026, 11, 2, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
