"""Trains and scores in pods of a trainer's image."""

from __future__ import annotations

import json
from io import BytesIO

import polars as pl

from docker.conftest import ImagePods
from evergreen.artifacts import Model, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.training.scorer import Scorer
from upstream import write_upstream_receipt

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


def train_inside(
    pods: ImagePods, image: str, lake: Lake, pipeline: Pipeline, training_set: TrainingSet, *, module: str
) -> Model:
    """The model that `python -m <module> train` makes of the training set in a pod."""
    spec = f"specs/{pipeline.pipeline}/{pipeline.digest}.json"
    lake.objects.put(spec, pipeline.model_dump_json().encode())
    receipt = write_upstream_receipt(lake, pipeline, training_set)
    command = ["python", "-m", module, "train", "--pipeline", spec, "--inputs", receipt]
    log = pods.run(image, [*command, "--run", "r", "--task", "train", "--attempt", "1"], lake=lake)
    written = json.loads(lake.objects.get(log.splitlines()[-1].split()[1]))
    return Model.model_validate(written["result"]["Model"])


def assert_scores_alike(pods: ImagePods, image: str, lake: Lake, model: Model, training_set: TrainingSet) -> None:
    """The holdout part gets the same scores, to the bit, in a pod and in this process."""
    rows = f"{training_set.uri}/holdout.parquet"
    inside = pods.run(image, ["python", "-c", SCORE, model.uri, model.digest, rows], lake=lake)
    outside = Scorer.load(lake, model.uri, model.digest).score(pl.read_parquet(BytesIO(lake.objects.get(rows))))
    assert len(set(outside)) > 100
    assert inside.split()[-1] == outside.tobytes().hex()
