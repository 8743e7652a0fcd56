"""From a training set to a stored model: the stage this room is for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from evergreen.artifacts import Model, TrainingSet
from evergreen.features.training_set import fetch_part
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline, Training
from evergreen.training.calibration import Calibration, fit_calibration
from evergreen.training.card import model_card
from evergreen.training.checkpoint import Checkpoints, WholeCheckpoints
from evergreen.training.dataset import Examples
from evergreen.training.devices import DTYPES, choose_device, memory_errors, repeatable
from evergreen.training.encoders import Encoders, warn_of_constants
from evergreen.training.export import build_graph, require_equal
from evergreen.training.interruption import Interruption, interruptible
from evergreen.training.loop import Fit, score
from evergreen.training.model_files import store_model
from evergreen.training.network import TabularNetwork
from evergreen.training.prepared import Prepared, larger_than_memory, prepare, prepare_shards
from evergreen.training.recipe import Recipe
from evergreen.training.report import Metrics, measure
from evergreen.training.rows import Rows, drawn_share
from evergreen.training.scorer import categorical_matrix
from evergreen.training.state import EpochResult, TrainingState, fingerprint
from evergreen.training.strategy import Alone

logger = logging.getLogger(__name__)

Progress = Callable[[EpochResult], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How this call trains, and whom it tells."""

    recipe: Recipe
    device: torch.device
    checkpoints: Checkpoints
    interruption: Interruption
    on_progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model before it is written down."""

    encoders: Encoders
    network: TabularNetwork
    calibration: Calibration
    metrics: Metrics


def train(
    pipeline: Pipeline,
    training_set: TrainingSet,
    lake: Lake,
    *,
    seed: int | None = None,
    work: Path,
    micro_batch_rows: int | None = None,
    on_progress: Progress | None = None,
) -> Model:
    """The model that `training_set` teaches, stored in the lake; the same inputs and seed give the same version.

    `work` is a folder for files on the way. Raises DataError for data nothing can be learned from, OutOfMemory,
    and TemporaryError on SIGTERM: the next call resumes from the last epoch's checkpoint.
    """
    device = choose_device()
    recipe = Recipe.of(pipeline, seed=seed, micro_batch_rows=micro_batch_rows, device=device.type)
    checkpoints = WholeCheckpoints(lake.objects, training_set, recipe, work)
    rows_at_once = recipe.training.micro_batch_rows or recipe.training.batch_rows
    folder = work / "model"
    with (
        interruptible() as interruption,
        memory_errors(batch_rows=rows_at_once),
        repeatable(seed=recipe.training.seed, threads=recipe.training.threads, device=device),
    ):
        prepared = _prepare(lake, training_set, recipe, device, work)
        run = Run(
            recipe=recipe,
            device=device,
            checkpoints=checkpoints,
            interruption=interruption,
            on_progress=on_progress,
        )
        fitted = _fit(prepared, run)
        _write(folder, fitted, prepared.checked, recipe)
        (folder / "card.md").write_text(model_card(pipeline, training_set, recipe, fitted.metrics))
        interruption.check()
    model = store_model(
        lake,
        folder,
        pipeline=pipeline.pipeline,
        as_of=training_set.as_of,
        training_set=training_set.digest,
        seed=recipe.training.seed,
    )
    checkpoints.clear()
    logger.info("stored %s: validation AP %.4f", model.uri, fitted.metrics.average_precision)
    return model


def _prepare(lake: Lake, training_set: TrainingSet, recipe: Recipe, device: torch.device, work: Path) -> Prepared:
    train = fetch_part(lake, training_set, "train", work)
    validation = fetch_part(lake, training_set, "validation", work)
    if larger_than_memory((train, validation), recipe.training):
        prepared = prepare_shards(train, validation, recipe.features, recipe.training, device, work / "shards")
    else:
        prepared = prepare(train, validation, recipe.features, device)
    train.unlink()
    validation.unlink()
    return prepared


def _fit(prepared: Prepared, run: Run) -> Fitted:
    training, encoders = run.recipe.training, prepared.encoders
    warn_of_constants(encoders, run.recipe.features.numeric)
    network = _start(prepared, training, run.device)
    strategy = Alone(network, precision=DTYPES[training.precision])
    state = TrainingState(strategy.network, training, architecture=fingerprint(network))
    logger.info("training on %d rows (%d positive)", prepared.negatives + prepared.positives, prepared.positives)
    run.checkpoints.resume(state)
    whole = copy.deepcopy(network).requires_grad_(False)
    Fit(
        state=state,
        network=whole,
        strategy=strategy,
        train=prepared.train,
        validation=prepared.validation,
        training=training,
        checkpoints=run.checkpoints,
        interruption=run.interruption,
        on_progress=run.on_progress,
    ).run()
    whole.load_state_dict(strategy.whole(state.best), strict=False)
    labels = prepared.validation.labels
    logits = score(whole, prepared.validation, training.micro_batch_rows)
    calibration = fit_calibration(logits, labels)
    metrics = measure(state, calibration, labels, calibration.probability(logits))
    return Fitted(encoders=encoders, network=whole.cpu(), calibration=calibration, metrics=metrics)


def _start(prepared: Prepared, training: Training, device: torch.device) -> TabularNetwork:
    """The untrained network on `device`."""
    network = TabularNetwork(prepared.encoders, hidden=training.hidden, dropout=training.dropout)
    positives = float(prepared.positives)
    drawn = prepared.negatives * drawn_share(prepared.negatives, training.negative_share)
    network.start_from(positives / (positives + drawn))
    return network.to(device)


def _write(folder: Path, fitted: Fitted, validation: Examples, recipe: Recipe) -> None:
    """Write every file of the model but its card; the graph must score the validation part as the network does."""
    folder.mkdir(parents=True)
    features = recipe.features
    graph = build_graph(fitted.network, fitted.encoders, fitted.calibration, features)
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    save_file(fitted.network.state_dict(), folder / "weights.safetensors")
    (folder / "signature.json").write_text(features.model_dump_json())
    (folder / "config.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "metrics.json").write_text(fitted.metrics.model_dump_json(indent=2))
    logits = score(fitted.network, Rows.on(torch.device("cpu"), fitted.encoders.encode(validation)))
    inputs = {
        "numeric": validation.numeric,
        "categorical": categorical_matrix(validation.categorical, features.categorical),
    }
    given = {name: value for name, value in inputs.items() if value.shape[1]}
    wanted = fitted.calibration.probability(logits)
    require_equal(folder / "model.onnx", given, wanted, threads=recipe.training.threads)
