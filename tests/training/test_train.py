"""train: from a stored training set to a stored model, to the bit, also after it was interrupted."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import ConfigurationError, DataError, IntegrityError, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline, Search
from evergreen.settings import Rendezvous
from evergreen.training.checkpoint_folder import clear_checkpoints
from evergreen.training.model_files import read_manifest
from evergreen.training.ranking import average_precision
from evergreen.training.recipe import Recipe
from evergreen.training.scorer import Scorer
from evergreen.training.search import configured
from evergreen.training.state import EpochResult
from evergreen.training.train import train

MakeTrainingSet = Callable[..., TrainingSet]


class Killed(Exception):
    """Stands for a process that ended between two epochs."""


def _train(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, work: Path, **options: object) -> Model:
    """As the step does: no checkpoint outlives the model's proof."""
    work.mkdir(parents=True)
    model = train(pipeline, training_set, lake, work=work, **options)  # type: ignore[arg-type]
    clear_checkpoints(lake, model)
    return model


def _weights(lake: Lake, model: Model) -> dict[str, torch.Tensor]:
    return load(lake.objects.get(f"{model.uri}/weights.safetensors"))


def _changed(pipeline: Pipeline, **training: object) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update=training)})


@pytest.fixture
def training_set(lake: Lake, tiny: Pipeline, make_training_set: MakeTrainingSet) -> TrainingSet:
    """The usual training set, stored in `lake`."""
    return make_training_set(lake, tiny)


def test_a_model_is_stored_whole_and_finds_the_pattern(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, make_rows: Callable[..., pl.DataFrame]
) -> None:
    model = _train(tiny, training_set, lake, tmp_path / "work")
    files = {"model.onnx", "weights.safetensors", "config.json", "signature.json", "metrics.json", "card.md"}
    manifest = read_manifest(lake, model.uri, model.digest)
    assert set(manifest) == files
    assert {name: lake.objects.digest(f"{model.uri}/{name}") for name in files} == manifest
    unseen = make_rows(2000, seed=99)
    scores = Scorer.load(lake, model.uri, model.digest).score(unseen)
    labels = unseen["label"].to_numpy()
    assert average_precision(labels, scores) > 3 * labels.mean()
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.35)


def test_metrics_and_card_say_what_was_done(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    model = _train(tiny, training_set, lake, tmp_path / "work", seed=11)
    metrics = json.loads(lake.objects.get(f"{model.uri}/metrics.json"))
    config = json.loads(lake.objects.get(f"{model.uri}/config.json"))
    card = lake.objects.get(f"{model.uri}/card.md").decode()
    assert metrics["mean_score"] == pytest.approx(metrics["positives"] / metrics["rows"], rel=1e-4)
    assert [point["epoch"] for point in metrics["curve"]] == list(range(1, metrics["epochs"] + 1))
    assert (model.seed, config["training"]["seed"]) == (11, 11)
    for said in (tiny.owner, tiny.purpose, training_set.digest, "merchant_id", "2026-10-23", "Seed 11"):
        assert said in card
    assert "search" not in card


def test_card_of_a_searched_model_names_what_was_chosen_and_no_spec_that_nobody_recorded(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    space = {"hidden": {"choices": [[8], [16, 16]]}, "learning_rate": {"low": 1e-3, "high": 1e-2}}
    search = Search.model_validate({"configurations": 2, "budget_epochs": 8, "space": space})
    chosen = configured(tiny.model_copy(update={"search": search}), {"hidden": (8,), "learning_rate": 0.004})
    model = _train(chosen, training_set, lake, tmp_path / "work")
    card = lake.objects.get(f"{model.uri}/card.md").decode()
    assert "Fields that the spec's search varies: `hidden` [8], `learning_rate` 0.004." in card
    recipe = Recipe.model_validate_json(lake.objects.get(f"{model.uri}/config.json"))
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [training_set.digest, recipe.digest]


def test_the_same_inputs_give_the_same_version_whatever_the_process_was_set_to(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    first = _train(tiny, training_set, lake, tmp_path / "a")
    torch.manual_seed(12345)
    torch.set_num_threads(2)
    second = _train(tiny, training_set, lake, tmp_path / "b")
    other = _train(tiny, training_set, lake, tmp_path / "c", seed=8)
    assert first == second
    assert other.version != first.version


def test_pods_that_meet_for_a_training_in_one_process_are_refused(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    rendezvous = Rendezvous(nodes=2, index=1, endpoint="first:29400", address=None)
    with pytest.raises(ConfigurationError, match="found none in a Job of 2 pods, wanted a strategy") as caught:
        _train(tiny, training_set, lake, tmp_path / "work", rendezvous=rendezvous)
    assert caught.value.exit_code == 64
    assert lake.objects.list("models") == []


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_killed_run_resumes_to_the_same_bits(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, epoch: int
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")
    seen: list[int] = []

    def kill(result: EpochResult) -> None:
        seen.append(result.epoch)
        if result.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        _train(tiny, training_set, lake, tmp_path / "killed", on_progress=kill)
    resumed = _train(tiny, training_set, lake, tmp_path / "resumed", on_progress=lambda r: seen.append(r.epoch))
    assert resumed == whole
    assert seen == list(range(1, tiny.training.max_epochs + 1))
    assert lake.objects.list("checkpoints") == []


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def kill(result: EpochResult) -> None:
        if result.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        _train(tiny, training_set, lake, tmp_path / "killed", on_progress=kill)
    older, newest = lake.objects.list("checkpoints")
    lake.objects.put(newest, lake.objects.get(newest)[:-100])
    caplog.set_level(logging.INFO)
    assert _train(tiny, training_set, lake, tmp_path / "resumed") == whole
    assert f"resumed after epoch 2 from {older}" in caplog.text


def test_sigterm_ends_between_batches_and_the_next_try_goes_on(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    whole = _train(tiny, training_set, lake, tmp_path / "whole")

    def terminate(result: EpochResult) -> None:
        if result.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TemporaryError, match="resumes") as caught:
        _train(tiny, training_set, lake, tmp_path / "ended", on_progress=terminate)
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path[-11:-5] for path in lake.objects.list("checkpoints")] == ["000001", "000002"]
    assert _train(tiny, training_set, lake, tmp_path / "resumed") == whole


def test_micro_batches_end_at_the_same_weights(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    whole = _weights(lake, _train(tiny, training_set, lake, tmp_path / "whole"))
    cut = _weights(lake, _train(tiny, training_set, lake, tmp_path / "cut", micro_batch_rows=50))
    assert all(torch.allclose(whole[name], cut[name], atol=2e-3) for name in whole)


def test_each_epoch_is_one_line_in_the_log(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="evergreen")
    _train(_changed(tiny, max_epochs=2), training_set, lake, tmp_path / "work")
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(f" {said} " in f" {line} " for line in lines for said in ("loss", "validation AP", "rows/s,", "ETA"))


def test_training_stops_when_validation_no_longer_improves(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    impatient = _changed(tiny, max_epochs=60, patience=2, learning_rate=0.02)
    model = _train(impatient, training_set, lake, tmp_path / "work")
    metrics = json.loads(lake.objects.get(f"{model.uri}/metrics.json"))
    assert metrics["epochs"] == metrics["best_epoch"] + 2 < 60


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(
    lake: Lake,
    tiny: Pipeline,
    make_training_set: MakeTrainingSet,
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
    part: str,
    label: int,
) -> None:
    alone = make_rows(300).with_columns(label=pl.lit(label, pl.Int8))
    training_set = make_training_set(lake, tiny, **{part: alone})
    with pytest.raises(DataError, match=f"Labels of the {part} part: found the values \\[{label}\\] in 300 rows"):
        _train(tiny, training_set, lake, tmp_path / "work")


def test_a_part_without_a_feature_is_refused_by_name(
    lake: Lake,
    tiny: Pipeline,
    make_training_set: MakeTrainingSet,
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
) -> None:
    training_set = make_training_set(lake, tiny, validation=make_rows(300).drop("hour"))
    with pytest.raises(DataError, match="validation part: found no hour"):
        _train(tiny, training_set, lake, tmp_path / "work")


def test_altered_training_rows_are_refused(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    path = f"{training_set.uri}/train.parquet"
    lake.objects.put(path, lake.objects.get(path) + b"!")
    with pytest.raises(IntegrityError):
        _train(tiny, training_set, lake, tmp_path / "work")


def test_odd_columns_and_few_rows_still_make_a_sound_model(
    lake: Lake,
    tiny: Pipeline,
    make_training_set: MakeTrainingSet,
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = make_rows(120).with_columns(
        amount=pl.when(pl.int_range(pl.len()) % 9 == 0).then(float("inf")).otherwise("amount"),
        hour=pl.lit(None, pl.Float64),
        foreign=pl.lit(1.0),
        channel=pl.lit(None, pl.String),
        label=(pl.int_range(pl.len()) % 10 == 0).cast(pl.Int8),
    )
    usual = make_rows(400, seed=5)
    model = _train(tiny, make_training_set(lake, tiny, train=odd, validation=usual), lake, tmp_path / "work")
    scores = Scorer.load(lake, model.uri, model.digest).score(usual)
    assert np.isfinite(scores).all()
    assert ((scores > 0) & (scores < 1)).all()
    assert "hour, foreign, channel" in caplog.text
    channels = [usual.with_columns(channel=pl.lit(c, pl.String)) for c in (None, "online", "never seen")]
    alike = [Scorer.load(lake, model.uri, model.digest).score(rows).tolist() for rows in channels]
    assert alike[0] == alike[1] == alike[2]


def test_a_learning_rate_that_explodes_is_named(
    lake: Lake, tiny: Pipeline, training_set: TrainingSet, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"Lower training\.learning_rate"):
        _train(_changed(tiny, learning_rate=1e30), training_set, lake, tmp_path / "work")
