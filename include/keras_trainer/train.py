"""From a training set to a stored model, in Keras."""

from __future__ import annotations

import json
import logging
import os
import time
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
from evergreen.training.micro_batch import halved_rows, rows_at_once
from evergreen.training.model_files import store_model
from evergreen.training.ranking import average_precision, brier, roc_auc
from evergreen.training.scorer import Signature, categorical_matrix
from keras_trainer.devices import device_kind, memory_errors, require_device
from keras_trainer.export import export_graph, score_graph
from keras_trainer.network import build_network, with_probability

logger = logging.getLogger(__name__)
Curve = list[dict[str, float]]
"""Epoch, loss and average precision on the validation part, of each epoch."""
TOLERANCE = 1e-5
"""Largest difference of probability between the graph and the network."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Both parts as read and as encoded."""

    encoders: Encoders
    train: Encoded
    validation: Encoded
    validation_rows: Examples


class DenseAdamW(keras.optimizers.AdamW):
    """AdamW over every row of an embedding at each step, as torch's: gathered gradients then count as those at once."""

    def apply(self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable] | None = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


class Progress(keras.callbacks.Callback):
    """Logs how far the training is after each epoch, and keeps what each came to."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.curve: Curve = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        told, done, last = logs or {}, epoch + 1, self.params["epochs"]
        self.curve.append({"epoch": done, "loss": told["loss"], "average_precision": told["val_ap"]})
        seconds = (time.monotonic() - self.began) / done
        said = f"loss {told['loss']:.4f}, validation AP {told['val_ap']:.4f}"
        logger.info(
            "epoch %d of %d: %s, %d rows/s, ETA %d s", done, last, said, self.rows / seconds, (last - done) * seconds
        )


def train(
    pipeline: Pipeline,
    training_set: TrainingSet,
    lake: Lake,
    *,
    seed: int,
    halvings: int = 0,
    work: Path,
    expected_device: str | None = None,
) -> Model:
    """The model that `training_set` teaches, stored in the lake; the same inputs and seed give the same version.

    `halvings` says how often memory ran out before, which halves the rows on the device at once and gathers gradients
    over twice as many steps; `work` is a folder for files on the way; `expected_device` the kind of device that must be
    there. Raises DataError for data nothing can be learned from, and OutOfMemory.
    """
    require_device(expected_device)
    at_once = halved_rows(pipeline.training, halvings)
    spec = pipeline.training.model_copy(update={"seed": seed, "micro_batch_rows": at_once})
    signature = Signature(numeric=pipeline.features.numeric, categorical=pipeline.features.categorical)
    folder = work / "model"
    folder.mkdir()
    with memory_errors(rows=at_once):
        _make(folder, spec, signature, _read(lake, training_set, signature, work))
    return store_model(
        lake,
        folder,
        pipeline=pipeline.pipeline,
        as_of=training_set.as_of,
        training_set=training_set.digest,
        seed=seed,
    )


def _make(folder: Path, spec: Training, signature: Signature, data: Data) -> None:
    """Every file of the model that `data` teaches."""
    _repeatable(spec.seed, spec.threads)
    network, curve = _fitted(spec, data)
    calibration = fit_calibration(_predict(network, data.validation), data.validation.labels)
    _write(folder, spec, signature, data, with_probability(network, calibration.slope, calibration.intercept), curve)


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


def _fitted(spec: Training, data: Data) -> tuple[keras.Model, Curve]:
    """The network with the weights of its best epoch, and what every epoch came to."""
    labels = data.train.labels
    levels = tuple(len(v.levels) for v in data.encoders.vocabularies)
    network = build_network(
        data.train.numeric,
        data.encoders.numeric,
        levels,
        hidden=spec.hidden,
        dropout=spec.dropout,
        rate=float(labels.mean()),
    )
    steps = -(-spec.batch_rows // rows_at_once(spec))
    network.compile(
        DenseAdamW(
            spec.learning_rate,
            weight_decay=spec.weight_decay,
            gradient_accumulation_steps=steps if steps > 1 else None,
        ),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.AUC(curve="PR", from_logits=True, name="ap")],
    )
    stop = keras.callbacks.EarlyStopping("val_ap", mode="max", patience=spec.patience, restore_best_weights=True)
    progress = Progress(labels.size)
    network.fit(
        _inputs(data.train),
        labels,
        validation_data=(_inputs(data.validation), data.validation.labels),
        batch_size=-(-spec.batch_rows // steps),
        epochs=spec.max_epochs,
        callbacks=[stop, progress],
        verbose=0,
    )
    return network, progress.curve


def _inputs(encoded: Encoded) -> list[npt.NDArray[np.generic]]:
    """What the network takes; an input of width 0 is left out."""
    return [given for given in (encoded.numeric, encoded.categories.astype(np.int32)) if given.shape[1]]


def _predict(network: keras.Model, encoded: Encoded) -> npt.NDArray[np.float64]:
    """float64 [B]: what the network says of each row."""
    return network.predict(_inputs(encoded), batch_size=65536, verbose=0).reshape(-1).astype(np.float64)


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
