"""A run's checkpoints as NumPy's .npz, and where they lie. Knows nothing of TensorFlow.

checkpoints/<pipeline>/keras-<training set>-<spec>/epoch-<N>.ckpt
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake
from evergreen.pipeline import Training
from evergreen.training.checkpoint_files import CheckpointFiles
from evergreen.training.scorer import Signature

Arrays = list[npt.NDArray[np.generic]]
Curve = list[dict[str, float]]
"""Epoch, loss and average precision on the validation part, of each epoch."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training between two epochs."""

    architecture: str
    """Of what `state` belongs to: others cannot take it on."""
    curve: Curve
    state: Arrays
    """Every variable of the network and its optimizer, in Keras' order."""
    best: Arrays
    """The network's weights after its best epoch."""

    def to_bytes(self) -> bytes:
        """The checkpoint as a file."""
        file = io.BytesIO()
        arrays = {f"state.{n}": array for n, array in enumerate(self.state)}
        arrays |= {f"best.{n}": array for n, array in enumerate(self.best)}
        np.savez(file, told=np.array(json.dumps([self.architecture, self.curve])), **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """The checkpoint that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            architecture, curve = json.loads(str(file["told"]))
            state, best = ([file[name] for name in file.files if name.startswith(kind)] for kind in ("state.", "best."))
        return cls(architecture=architecture, curve=curve, state=state, best=best)


def checkpoints_of(
    lake: Lake, pipeline: str, training_set: str, spec: Training, signature: Signature
) -> CheckpointFiles:
    """Those of a run, of its retries and of no other run; `training_set` is the digest of its rows."""
    same = spec.model_copy(update={"micro_batch_rows": None})  # halved where memory ran out
    decided = hashlib.sha256(f"{same.model_dump_json()}{signature.model_dump_json()}".encode()).hexdigest()
    return CheckpointFiles(lake.objects, f"checkpoints/{pipeline}/keras-{training_set[:16]}-{decided[:16]}")


def clear_checkpoints(lake: Lake, pipeline: str, model: Model) -> None:
    """Removes what the tries of the training that made `model` left to resume from."""
    config = json.loads(lake.objects.get(f"{model.uri}/config.json"))
    spec = Training.model_validate({name: value for name, value in config.items() if name != "device"})
    signature = Signature.model_validate_json(lake.objects.get(f"{model.uri}/signature.json"))
    checkpoints_of(lake, pipeline, model.training_set, spec, signature).clear()
