"""Checkpoints in the lake, after each epoch and when a run is stopped.

    <folder of the run>/epoch-<N>[.<batches>].ckpt = a digest, safetensors

See checkpoint_files.py for the files, and checkpoint_folder.py for when all are removed.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from evergreen.artifacts import TrainingSet
from evergreen.lake.objects import Objects
from evergreen.training.checkpoint_files import CheckpointFiles
from evergreen.training.checkpoint_folder import checkpoint_folder
from evergreen.training.recipe import Recipe
from evergreen.training.state import Progress, TrainingState

logger = logging.getLogger(__name__)


class Checkpoints(Protocol):
    """The checkpoints of one run and of its retries."""

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but this one and the one before."""

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture and code."""


class WholeCheckpoints:
    """Checkpoints of a run in one process: one file each."""

    def __init__(self, objects: Objects, training_set: TrainingSet, recipe: Recipe, work: Path) -> None:
        self.files = CheckpointFiles(objects, checkpoint_folder(training_set.digest, recipe))
        self.work = work

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but this one and the one before."""
        tensors = state.tensors() | {"progress.loss": state.progress.loss, "progress.chance": state.progress.chance}
        numbers = state.numbers() | {"batches": state.progress.batches}
        metadata = {"numbers": json.dumps(numbers), "architecture": state.architecture}
        payload = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata=metadata)
        self.files.write(checkpoint_name(state), payload)

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture and code."""
        return any(self._resumed(state, path, payload) for path, payload in self.files.newest_first())

    def _resumed(self, state: TrainingState, path: str, payload: bytes) -> bool:
        tensors, metadata = self._read(payload)
        if metadata.get("architecture") != state.architecture:
            logger.warning("%s is of another architecture or other code; passing it over", path)
            return False
        numbers: dict[str, Any] = json.loads(metadata["numbers"])
        progress = Progress(
            batches=numbers["batches"], loss=tensors["progress.loss"], chance=tensors["progress.chance"]
        )
        state.restore(tensors, numbers, progress)
        logger.info("resumed %s from %s", said_position(state), path)
        return True

    def _read(self, payload: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
        local = self.work / "resumed.safetensors"
        local.write_bytes(payload)
        with safe_open(local, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata())
        local.unlink()
        return tensors, metadata


def checkpoint_name(state: TrainingState) -> str:
    """`epoch-<epochs done>`, and the batches of the next one if it was under way; names sort by age."""
    epoch = f"epoch-{len(state.curve):06d}"
    return f"{epoch}.{state.progress.batches:08d}" if state.progress.batches else epoch


def said_position(state: TrainingState) -> str:
    """Where a run is, for people."""
    epoch = f"after epoch {len(state.curve)}"
    return f"{epoch} and {state.progress.batches} batches" if state.progress.batches else epoch
