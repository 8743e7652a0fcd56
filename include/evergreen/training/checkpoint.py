"""Checkpoints in the lake, after each epoch and when a run is stopped: the last two, each with its digest in front.

    <folder of the run>/epoch-<N>[.<batches>].ckpt = SHA-256 of the rest, safetensors

See checkpoint_folder.py for the folder, and for when all are removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from evergreen.artifacts import TrainingSet
from evergreen.errors import NotFound
from evergreen.lake.objects import Objects
from evergreen.training.checkpoint_folder import checkpoint_folder
from evergreen.training.recipe import Recipe
from evergreen.training.state import Progress, TrainingState

logger = logging.getLogger(__name__)

KEPT = 2
DIGEST_BYTES = 32


class Checkpoints(Protocol):
    """The checkpoints of one run and of its retries."""

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but this one and the one before."""

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture and code."""


class WholeCheckpoints:
    """Checkpoints of a run in one process: one file each."""

    def __init__(self, objects: Objects, training_set: TrainingSet, recipe: Recipe, work: Path) -> None:
        self.objects = objects
        self.folder = checkpoint_folder(training_set.digest, recipe)
        self.work = work

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but this one and the one before."""
        tensors = state.tensors() | {"progress.loss": state.progress.loss, "progress.chance": state.progress.chance}
        numbers = state.numbers() | {"batches": state.progress.batches}
        metadata = {"numbers": json.dumps(numbers), "architecture": state.architecture}
        payload = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata=metadata)
        written = checkpoint_name(state)
        self.objects.put(self._path(written), hashlib.sha256(payload).digest() + payload)
        names = self._names()
        for name in set(names) - kept(names, written):
            self.objects.delete(self._path(name))

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture and code."""
        return any(self._resumed(state, self._path(name)) for name in reversed(self._names()))

    def _resumed(self, state: TrainingState, path: str) -> bool:
        payload = self._payload(path)
        if payload is None:
            return False
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

    def _payload(self, path: str) -> bytes | None:
        """What follows the digest in front; None, and a warning, when it is not what that was taken of."""
        try:
            data = self.objects.get(path)
        except NotFound:  # another run of the same model removed it since it was listed
            logger.warning("%s is gone; trying the one before", path)
            return None
        payload = data[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != data[:DIGEST_BYTES]:
            logger.warning("%s does not match its digest; trying the one before", path)
            return None
        return payload

    def _read(self, payload: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
        local = self.work / "resumed.safetensors"
        local.write_bytes(payload)
        with safe_open(local, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata())
        local.unlink()
        return tensors, metadata

    def _names(self) -> list[str]:
        """Oldest first."""
        return sorted(PurePosixPath(path).stem for path in self.objects.list(self.folder) if path.endswith(".ckpt"))

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}.ckpt"


def kept(names: Iterable[str], written: str) -> set[str]:
    """Of the checkpoints `names` the newest two up to `written`: the run passed over what was there after it."""
    return set(sorted(name for name in names if name <= written)[-KEPT:])


def checkpoint_name(state: TrainingState) -> str:
    """`epoch-<epochs done>`, and the batches of the next one if it was under way; names sort by age."""
    epoch = f"epoch-{len(state.curve):06d}"
    return f"{epoch}.{state.progress.batches:08d}" if state.progress.batches else epoch


def said_position(state: TrainingState) -> str:
    """Where a run is, for people."""
    epoch = f"after epoch {len(state.curve)}"
    return f"{epoch} and {state.progress.batches} batches" if state.progress.batches else epoch
