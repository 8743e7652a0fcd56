"""Checkpoints in the lake: one an epoch, the last two kept, each with its digest in front.

    checkpoints/<pipeline>/<training set>-<recipe>/epoch-<N>.ckpt = SHA-256 of the rest (32 bytes), safetensors

Only runs that would make the same model share a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from evergreen.artifacts import TrainingSet
from evergreen.lake.objects import Objects
from evergreen.training.recipe import Recipe
from evergreen.training.state import TrainingState

logger = logging.getLogger(__name__)

KEPT = 2
DIGEST_BYTES = 32


class Checkpoints:
    """The checkpoints of one run and of its retries."""

    def __init__(self, objects: Objects, training_set: TrainingSet, recipe: Recipe, work: Path) -> None:
        self.objects = objects
        self.folder = f"checkpoints/{recipe.pipeline}/{training_set.digest[:16]}-{recipe.digest[:16]}"
        self.work = work

    def save(self, state: TrainingState) -> None:
        """Write the state after its last epoch, then remove all but the newest two."""
        payload = save(state.tensors(), metadata={"numbers": json.dumps(state.numbers())})
        path = f"{self.folder}/epoch-{len(state.curve):06d}.ckpt"
        self.objects.put(path, hashlib.sha256(payload).digest() + payload)
        for old in self._paths()[:-KEPT]:
            self.objects.delete(old)

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest checkpoint whose digest holds."""
        for path in reversed(self._paths()):
            data = self.objects.get(path)
            payload = data[DIGEST_BYTES:]
            if hashlib.sha256(payload).digest() == data[:DIGEST_BYTES]:
                self._restore(state, payload)
                logger.info("resumed after epoch %d from %s", len(state.curve), path)
                return True
            logger.warning("%s does not match its digest; trying the one before", path)
        return False

    def clear(self) -> None:
        """Remove every checkpoint of this run: its model is stored."""
        for path in self._paths():
            self.objects.delete(path)

    def _restore(self, state: TrainingState, payload: bytes) -> None:
        local = self.work / "resumed.safetensors"
        local.write_bytes(payload)
        with safe_open(local, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            numbers = json.loads(file.metadata()["numbers"])
        local.unlink()
        state.restore(tensors, numbers)

    def _paths(self) -> list[str]:
        return [path for path in self.objects.list(self.folder) if path.endswith(".ckpt")]
