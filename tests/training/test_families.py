"""Networks, trees and their blend go through one trainer: same graph, same files, same answers to odd data."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import DataError, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline, Training
from evergreen.training.checkpoint_folder import clear_checkpoints
from evergreen.training.model_files import read_manifest
from evergreen.training.ranking import average_precision
from evergreen.training.scorer import Scorer
from evergreen.training.state import EpochResult
from evergreen.training.train import train

MakeTrainingSet = Callable[..., TrainingSet]
MakeRows = Callable[..., pl.DataFrame]
FAMILIES = ("network", "trees", "blend")
MEMBERS = {"network": {"weights.safetensors"}, "trees": {"trees.txt"}, "blend": {"weights.safetensors", "trees.txt"}}


def _train(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, work: Path, **options: object) -> Model:
    """As the step does: no checkpoint outlives the model's proof."""
    work.mkdir(parents=True)
    model = train(pipeline, training_set, lake, work=work, **options)  # type: ignore[arg-type]
    clear_checkpoints(lake, model)
    return model


def _of(pipeline: Pipeline, family: str, **training: object) -> Pipeline:
    changed = {"family": family, "max_trees": 40, "max_epochs": 3} | training
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update=changed)})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_is_calibrated_and_repeats_itself(
    family: str, lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    training_set = make_training_set(lake, tiny)
    model = _train(_of(tiny, family), training_set, lake, tmp_path / "one")
    assert _train(_of(tiny, family), training_set, lake, tmp_path / "two") == model
    files = set(read_manifest(lake, model.uri, model.digest))
    assert files == {"model.onnx", "config.json", "signature.json", "metrics.json", "card.md"} | MEMBERS[family]
    unseen = make_rows(4000, seed=99)
    scores, labels = Scorer.load(lake, model.uri, model.digest).score(unseen), unseen["label"].to_numpy()
    assert average_precision(labels, scores) > 3 * labels.mean()
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.35)


def test_trees_in_the_graph_score_as_lightgbm_does(
    lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    numbers = tiny.features.model_copy(update={"categorical": ()})
    pipeline = _of(tiny, "trees", max_trees=300).model_copy(update={"features": numbers})
    model = _train(pipeline, make_training_set(lake, pipeline), lake, tmp_path / "work")
    metrics = json.loads(lake.objects.get(f"{model.uri}/metrics.json"))
    trees = metrics["members"][0]
    booster = lightgbm.Booster(model_str=lake.objects.get(f"{model.uri}/trees.txt").decode())
    rows = make_rows(4000, seed=98)
    given = rows.select(numbers.numeric).cast(pl.Float32).to_numpy()
    assert booster.num_trees() == trees["best"] < trees["steps"] == trees["best"] + 50
    logits = booster.predict(given, raw_score=True)
    wanted = 1 / (1 + np.exp(-metrics["calibration_slope"] * logits - metrics["calibration_intercept"]))
    assert Scorer.load(lake, model.uri, model.digest).score(rows) == pytest.approx(wanted, abs=1e-6)


def test_a_blend_says_what_it_is_made_of(
    lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, tmp_path: Path
) -> None:
    model = _train(_of(tiny, "blend", members=2), make_training_set(lake, tiny), lake, tmp_path / "work")
    members = json.loads(lake.objects.get(f"{model.uri}/metrics.json"))["members"]
    card = lake.objects.get(f"{model.uri}/card.md").decode()
    assert [member["kind"] for member in members] == ["network", "network", "trees"]
    assert members[0]["curve"] != members[1]["curve"]
    assert members[0]["weight"] == members[1]["weight"] > 0
    assert members[2]["weight"] > 0
    assert card.count("a multi-layer perceptron") == 2
    assert card.count("boosted trees") == 1


def test_sigterm_ends_the_growing_of_trees(
    lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, tmp_path: Path
) -> None:
    pipeline, training_set = _of(tiny, "blend"), make_training_set(lake, tiny)
    whole = _train(pipeline, training_set, lake, tmp_path / "whole")

    def terminate(result: EpochResult) -> None:
        if result.epoch == pipeline.training.max_epochs:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TemporaryError, match="resumes"):
        _train(pipeline, training_set, lake, tmp_path / "ended", on_progress=terminate)
    seen: list[int] = []
    resumed = _train(
        pipeline, training_set, lake, tmp_path / "resumed", on_progress=lambda result: seen.append(result.epoch)
    )
    assert (resumed, seen) == (whole, [])  # the network was done; only trees were grown again
    assert lake.objects.list("checkpoints") == []


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_values_are_scored_soundly(
    family: str, lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    infinite = pl.when(pl.int_range(pl.len()) % 50 == 0).then(float("inf")).otherwise("amount")
    odd = make_rows(3000).with_columns(amount=infinite, foreign=pl.lit(1.0))
    model = _train(_of(tiny, family), make_training_set(lake, tiny, train=odd), lake, tmp_path / "work")
    rows = make_rows(6, seed=3).with_columns(
        amount=pl.Series([np.inf, -np.inf, np.nan, None, 1e30, 20.0]),
        hour=pl.Series([np.nan, None, 3.0, np.inf, 3.0, 3.0]),
        channel=pl.Series(["unseen", "", "online", "chip", None, "chip"]),
        merchant_id=pl.Series(["m1", "unseen", "", None, "m2", "m3"]),
    )
    scorer = Scorer.load(lake, model.uri, model.digest)
    scores = scorer.score(rows)
    assert ((scores > 0) & (scores < 1)).all()
    assert scorer.score(rows.reverse()) == pytest.approx(scores[::-1], abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_ten_rows_make_a_model(
    family: str, lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    ten = make_rows(10).with_columns(label=(pl.int_range(pl.len()) % 5 == 0).cast(pl.Int8))
    model = _train(_of(tiny, family), make_training_set(lake, tiny, train=ten, validation=ten), lake, tmp_path / "work")
    scores = Scorer.load(lake, model.uri, model.digest).score(make_rows(50, seed=4))
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_that_never_occurs_is_refused(
    family: str, lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    training_set = make_training_set(lake, tiny, train=make_rows(300).with_columns(label=pl.lit(0, pl.Int8)))
    with pytest.raises(DataError, match="Labels of the train part"):
        _train(_of(tiny, family), training_set, lake, tmp_path / "work")


def test_trees_are_not_grown_in_several_processes() -> None:
    with pytest.raises(ValidationError, match=r"family trees and parallel\.strategy data do not go together"):
        Training.model_validate({"family": "trees", "parallel": {"strategy": "data"}})


def test_a_part_larger_than_memory_grows_trees_from_evenly_spaced_rows(
    lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet, make_rows: MakeRows, tmp_path: Path
) -> None:
    pipeline = _of(tiny, "trees", rows_in_memory=1000)
    model = _train(pipeline, make_training_set(lake, pipeline), lake, tmp_path / "work")
    grown = lake.objects.get(f"{model.uri}/trees.txt").decode().split("Tree=0\n")[1].split("\n\n")[0]
    (counts,) = (line for line in grown.splitlines() if line.startswith("leaf_count="))
    assert 0.7 * 1000 < sum(map(int, counts.removeprefix("leaf_count=").split())) <= 0.8 * 1000  # of these, 0.8 a tree
    unseen = make_rows(2000, seed=97)
    labels = unseen["label"].to_numpy()
    scores = Scorer.load(lake, model.uri, model.digest).score(unseen)
    assert average_precision(labels, scores) > 2 * labels.mean()
