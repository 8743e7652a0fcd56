"""From a training set to a stored model, in Keras."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import EvergreenError
from evergreen.features.training_set import Part, fetch_part
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline, Training
from evergreen.training.calibration import fit_calibration
from evergreen.training.dataset import Examples, read_examples
from evergreen.training.encoders import Encoded, Encoders, fit_encoders
from evergreen.training.micro_batch import halved_rows
from evergreen.training.model_files import store_model
from evergreen.training.ranking import average_precision, brier, roc_auc
from evergreen.training.scorer import Signature, categorical_matrix
from keras_trainer.checkpoint import Curve, checkpoints_of
from keras_trainer.devices import device_kind, memory_errors, require_device
from keras_trainer.export import export_graph, score_graph
from keras_trainer.learning import Learning, inputs
from keras_trainer.network import build_network, with_probability

logger = logging.getLogger(__name__)
TOLERANCE = 1e-5
"""Largest difference of probability between the graph and the network."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Both parts as read and as encoded."""

    encoders: Encoders
    train: Encoded
    validation: Encoded
    validation_rows: Examples


def train(
    pipeline: Pipeline,
    training_set: TrainingSet,
    lake: Lake,
    *,
    seed: int,
    halvings: int = 0,
    work: Path,
    afresh: bool = False,
    expected_device: str | None = None,
    code: str,
) -> Model:
    """The model that `training_set` teaches, stored in the lake; the same inputs and seed give the same version.

    `halvings` says how often memory ran out before, which halves the rows on the device at once and gathers gradients
    over twice as many steps; `work` is a folder for files on the way; `afresh` leaves aside what an earlier run left to
    resume from; `expected_device` is the kind of device that must be there; `code` the digest of the sources that do
    the work. Checkpoints stay until `clear_checkpoints`. Raises DataError for data nothing can be learned from, and
    OutOfMemory.
    """
    require_device(expected_device)
    at_once = halved_rows(pipeline.training, halvings)
    spec = pipeline.training.model_copy(update={"seed": seed, "micro_batch_rows": at_once})
    signature = Signature(numeric=pipeline.features.numeric, categorical=pipeline.features.categorical)
    folder = work / "model"
    folder.mkdir()
    checkpoints = checkpoints_of(lake, pipeline.pipeline, training_set.digest, spec, signature)
    if afresh:
        checkpoints.clear()
    with memory_errors(rows=at_once):
        data = _read(lake, training_set, signature, work)
        _repeatable(spec.seed, spec.threads)
        learning = Learning(_start(spec, data), spec, code=code)
        learning.run(data.train, data.validation, checkpoints)
        _write(folder, spec, signature, data, _calibrated(learning.network, data.validation), learning.curve)
    return store_model(
        lake,
        folder,
        pipeline=pipeline.pipeline,
        as_of=training_set.as_of,
        training_set=training_set.digest,
        seed=seed,
    )


def _repeatable(seed: int, threads: int) -> None:
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _read(lake: Lake, training_set: TrainingSet, signature: Signature, work: Path) -> Data:
    def examples(part: Part) -> Examples:
        return read_examples(fetch_part(lake, training_set, part, work), signature)

    encoders, train_part = fit_encoders(examples("train"))
    validation = examples("validation")
    return Data(encoders=encoders, train=train_part, validation=encoders.encode(validation), validation_rows=validation)


def _start(spec: Training, data: Data) -> keras.Model:
    """The network before it learns."""
    return build_network(
        data.train.numeric,
        data.encoders.numeric,
        tuple(len(v.levels) for v in data.encoders.vocabularies),
        hidden=spec.hidden,
        dropout=spec.dropout,
        rate=float(data.train.labels.mean()),
    )


def _calibrated(network: keras.Model, validation: Encoded) -> keras.Model:
    """The learned network with a probability as its output."""
    calibration = fit_calibration(_predict(network, validation), validation.labels)
    return with_probability(network, calibration.slope, calibration.intercept)


def _predict(network: keras.Model, encoded: Encoded) -> npt.NDArray[np.float64]:
    """float64 [B]: what the network says of each row."""
    return network.predict(inputs(encoded), batch_size=65536, verbose=0).reshape(-1).astype(np.float64)


def _write(folder: Path, spec: Training, signature: Signature, data: Data, network: keras.Model, curve: Curve) -> None:
    """Every file of the model; the graph must score the validation part as the calibrated `network` does."""
    scores, labels = _predict(network, data.validation), data.validation.labels
    graph = export_graph(network, data.encoders, signature, folder.parent)
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    _require_equal(folder / "model.onnx", data.validation_rows, signature, scores)
    (folder / "signature.json").write_text(signature.model_dump_json())
    resolved = spec.model_dump(mode="json") | {"device": device_kind()}
    (folder / "config.json").write_text(json.dumps(resolved, indent=2))
    metrics = {
        "average_precision": average_precision(labels, scores),
        "roc_auc": roc_auc(labels, scores),
        "brier": brier(labels, scores),
        "rows": labels.size,
        "positives": int(labels.sum()),
        "best_epoch": max(curve, key=lambda done: done["average_precision"])["epoch"],
        "curve": curve,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
    logger.info("validation AP %.4f", metrics["average_precision"])


def _require_equal(path: Path, rows: Examples, signature: Signature, wanted: npt.NDArray[np.float64]) -> None:
    found = score_graph(path, rows.numeric, categorical_matrix(rows.categorical, signature.categorical))
    worst = float(np.max(np.abs(found - wanted)))
    if not worst <= TOLERANCE:
        raise EvergreenError(
            "Exported model",
            found=f"scores up to {worst:.2g} away from the network's",
            wanted=f"at most {TOLERANCE}",
            remedy="Another release of keras or tf2onnx may export it rightly; see docker/keras/requirements.txt.",
        )
