"""Epoch after epoch until the validation part gains no more; each has a seed of its own, and ends in a checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
import time

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from evergreen.pipeline import Training
from evergreen.training.checkpoint_files import CheckpointFiles
from evergreen.training.encoders import Encoded
from evergreen.training.micro_batch import rows_at_once
from keras_trainer.checkpoint import Checkpoint, Curve
from keras_trainer.devices import device_kind

logger = logging.getLogger(__name__)
Examples = tuple[list[npt.NDArray[np.generic]], npt.NDArray[np.generic]]
"""Inputs of the network, and labels."""


class DenseAdamW(keras.optimizers.AdamW):
    """AdamW over every row of an embedding at each step, as torch's: gathered gradients then count as those at once."""

    def apply(self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable] | None = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


class Learning:
    """A network on its way: `network` is what the epochs of `curve` made of it."""

    def __init__(self, network: keras.Model, spec: Training, *, code: str) -> None:
        """`code` is the digest of the sources that do the work."""
        self.network = network
        self.spec = spec
        self.steps = -(-spec.batch_rows // rows_at_once(spec))
        """Over how many steps gradients are gathered."""
        self.curve: Curve = []
        self._compile()
        self.best = network.get_weights()
        self.architecture = self._fingerprint(code)

    def run(self, train: Encoded, validation: Encoded, checkpoints: CheckpointFiles) -> None:
        """Learns to the end, from the newest checkpoint where there is one; the network has then its best weights."""
        self._resume(checkpoints)
        learned, checked = ((inputs(part), part.labels) for part in (train, validation))
        resumed, began = len(self.curve), time.monotonic()
        while not self._done:
            self._learn_epoch(learned, checked)
            checkpoints.write(f"epoch-{len(self.curve):06d}", self._checkpoint().to_bytes())
            self._tell(train.labels.size, (time.monotonic() - began) / (len(self.curve) - resumed))
        self.network.set_weights(self.best)

    @property
    def best_epoch(self) -> int:
        """From 1; 0 before the first."""
        best = max(self.curve, key=lambda done: done["average_precision"], default={"epoch": 0})
        return int(best["epoch"])

    @property
    def _done(self) -> bool:
        epochs = len(self.curve)
        return epochs >= self.spec.max_epochs or (epochs > 0 and epochs - self.best_epoch >= self.spec.patience)

    def _compile(self) -> None:
        optimizer = DenseAdamW(
            self.spec.learning_rate,
            weight_decay=self.spec.weight_decay,
            gradient_accumulation_steps=self.steps if self.steps > 1 else None,
        )
        optimizer.build(self.network.trainable_variables)
        metric = keras.metrics.AUC(curve="PR", from_logits=True, name="ap")
        self.network.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True), metrics=[metric])

    def _learn_epoch(self, train: Examples, validation: Examples) -> None:
        done = len(self.curve)
        keras.utils.set_random_seed(int(np.random.SeedSequence([self.spec.seed, done]).generate_state(1)[0]))
        told = self.network.fit(
            *train,
            validation_data=validation,
            batch_size=-(-self.spec.batch_rows // self.steps),
            initial_epoch=done,
            epochs=done + 1,
            verbose=0,
        ).history
        self.curve.append({"epoch": done + 1, "loss": told["loss"][0], "average_precision": told["val_ap"][0]})
        if self.best_epoch == done + 1:
            self.best = self.network.get_weights()

    def _tell(self, rows: int, seconds: float) -> None:
        """Logs how far the training is; an epoch of `rows` takes `seconds`."""
        now, last = self.curve[-1], self.spec.max_epochs
        said = f"loss {now['loss']:.4f}, validation AP {now['average_precision']:.4f}"
        left = (last - now["epoch"]) * seconds
        logger.info("epoch %d of %d: %s, %d rows/s, ETA %d s", now["epoch"], last, said, rows / seconds, left)

    def _resume(self, checkpoints: CheckpointFiles) -> None:
        for path, payload in checkpoints.newest_first():
            found = Checkpoint.from_bytes(payload)
            if found.architecture != self.architecture:
                logger.warning("%s is of other code, another device or other rows at once; passing it over", path)
                continue
            for variable, value in zip(self._variables, found.state, strict=True):
                variable.assign(value)
            self.curve, self.best = found.curve, found.best
            logger.info("resumed after epoch %d from %s", len(self.curve), path)
            return

    def _checkpoint(self) -> Checkpoint:
        state = [variable.numpy() for variable in self._variables]
        return Checkpoint(architecture=self.architecture, curve=self.curve, state=state, best=self.best)

    @property
    def _variables(self) -> list[keras.Variable]:
        """Weights, states of random numbers and the optimizer's own."""
        network = self.network
        return [*network.trainable_variables, *network.non_trainable_variables, *network.optimizer.variables]

    def _fingerprint(self, code: str) -> str:
        """Of all that must be the same for a checkpoint to end at the same bits, beside what its folder names."""
        shapes = [(tuple(variable.shape), str(variable.dtype)) for variable in self._variables]
        same = [code, keras.version(), tf.__version__, device_kind(), rows_at_once(self.spec), shapes]
        return hashlib.sha256(json.dumps(same).encode()).hexdigest()


def inputs(encoded: Encoded) -> list[npt.NDArray[np.generic]]:
    """What the network takes; an input of width 0 is left out."""
    return [given for given in (encoded.numeric, encoded.categories.astype(np.int32)) if given.shape[1]]
