"""Checkpoints in the lake, after each epoch and when a run is stopped: the last two, each with its digest in front.

    checkpoints/<pipeline>/<training set>-<recipe>/epoch-<N>[.<batches>].ckpt = SHA-256 of the rest, safetensors

Only runs that would make the same model share a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from evergreen.artifacts import TrainingSet
from evergreen.lake.objects import Objects
from evergreen.training.recipe import Recipe
from evergreen.training.state import Progress, TrainingState

logger = logging.getLogger(__name__)

KEPT = 2
DIGEST_BYTES = 32


class Checkpoints(Protocol):
    """The checkpoints of one run and of its retries."""

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but the newest two."""

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture."""

    def clear(self) -> None:
        """Remove every checkpoint of this run: its model is stored."""


class WholeCheckpoints:
    """Checkpoints of a run in one process: one file each."""

    def __init__(self, objects: Objects, training_set: TrainingSet, recipe: Recipe, work: Path) -> None:
        self.objects = objects
        self.folder = checkpoint_folder(training_set, recipe)
        self.work = work

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but the newest two."""
        tensors = state.tensors() | {"progress.loss": state.progress.loss, "progress.chance": state.progress.chance}
        numbers = state.numbers() | {"batches": state.progress.batches}
        metadata = {"numbers": json.dumps(numbers), "architecture": state.architecture}
        payload = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata=metadata)
        self.objects.put(f"{self.folder}/{checkpoint_name(state)}.ckpt", hashlib.sha256(payload).digest() + payload)
        for old in self._paths()[:-KEPT]:
            self.objects.delete(old)

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture."""
        return any(self._resumed(state, path) for path in reversed(self._paths()))

    def clear(self) -> None:
        """Remove every checkpoint of this run: its model is stored."""
        for path in self._paths():
            self.objects.delete(path)

    def _resumed(self, state: TrainingState, path: str) -> bool:
        data = self.objects.get(path)
        payload = data[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != data[:DIGEST_BYTES]:
            logger.warning("%s does not match its digest; trying the one before", path)
            return False
        tensors, metadata = self._read(payload)
        if metadata.get("architecture") != state.architecture:
            logger.warning("%s is of another architecture; passing it over", path)
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

    def _paths(self) -> list[str]:
        """Oldest first."""
        paths = [path for path in self.objects.list(self.folder) if path.endswith(".ckpt")]
        return sorted(paths, key=lambda path: PurePosixPath(path).stem)


def checkpoint_folder(training_set: TrainingSet, recipe: Recipe) -> str:
    """The folder that every try of a run shares, and no other run."""
    return f"checkpoints/{recipe.pipeline}/{training_set.digest[:16]}-{recipe.digest[:16]}"


def checkpoint_name(state: TrainingState) -> str:
    """`epoch-<epochs done>`, and the batches of the next one if it was under way; names sort by age."""
    epoch = f"epoch-{len(state.curve):06d}"
    return f"{epoch}.{state.progress.batches:08d}" if state.progress.batches else epoch


def said_position(state: TrainingState) -> str:
    """Where a run is, for people."""
    epoch = f"after epoch {len(state.curve)}"
    return f"{epoch} and {state.progress.batches} batches" if state.progress.batches else epoch
