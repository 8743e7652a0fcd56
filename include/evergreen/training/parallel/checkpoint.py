"""Checkpoints of runs in several processes, by torch.distributed.checkpoint: each process writes what it holds.

    <folder of the run>/epoch-<N>[.<batches>]/
        __<rank>_<number>.distcp, .metadata     torch's own format
        manifest.json                           every file's digest, and what is not a tensor; written last

A folder without a manifest was never finished. Another number of processes can take a checkpoint on.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from evergreen.artifacts import TrainingSet
from evergreen.errors import NotFound
from evergreen.lake.objects import Objects, file_digest
from evergreen.training.checkpoint import checkpoint_name, said_position
from evergreen.training.checkpoint_files import kept
from evergreen.training.checkpoint_folder import checkpoint_folder
from evergreen.training.recipe import Recipe
from evergreen.training.state import Progress, TrainingState
from evergreen.training.team import Team

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """What a checkpoint consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    files: dict[str, str]
    """Name -> SHA-256."""
    numbers: dict[str, Any]
    batches: int
    losses: tuple[float, ...]
    """Summed loss of the epoch under way, by rank."""
    chance: str
    """State of the random numbers in hexadecimal, the same in every process."""


class ShardedCheckpoints:
    """The checkpoints of one run and of its retries, written by all of its processes."""

    def __init__(self, objects: Objects, training_set: TrainingSet, recipe: Recipe, work: Path, team: Team) -> None:
        self.objects = objects
        self.folder = checkpoint_folder(training_set.digest, recipe)
        self.work = work
        self.team = team

    def save(self, state: TrainingState) -> None:
        """Write the state as it is now, then remove all but this one and the one before."""
        name = checkpoint_name(state)
        files = {file: digest for part in self.team.gather(self._upload(state, name)) for file, digest in part.items()}
        losses = self.team.gather(state.progress.loss.item())
        if self.team.leads:
            manifest = Manifest(
                architecture=state.architecture,
                files=files,
                numbers=state.numbers(),
                batches=state.progress.batches,
                losses=tuple(losses),
                chance=bytes(state.progress.chance.tolist()).hex(),
            )
            self.objects.put(f"{self.folder}/{name}/{MANIFEST}", manifest.model_dump_json().encode())
            self._keep(kept(self._names(), name))

    def resume(self, state: TrainingState) -> bool:
        """Whether `state` was taken on from the newest sound checkpoint of the same architecture and code."""
        names = self.team.told(list(reversed(self._names())) if self.team.leads else None)
        return any(self._resumed(state, name) for name in names)

    def _upload(self, state: TrainingState, name: str) -> dict[str, str]:
        """Digests of the files this process wrote."""
        local = self.work / f"checkpoint-{self.team.rank}"
        shutil.rmtree(local, ignore_errors=True)
        save(state.tensors(), storage_writer=FileSystemWriter(local, sync_files=False))
        files = {}
        for path in sorted(local.iterdir()):
            files[path.name] = self.objects.put_file(f"{self.folder}/{name}/{path.name}", path).digest
        return files

    def _resumed(self, state: TrainingState, name: str) -> bool:
        local = self.work / "resumed"
        manifest = self._fetch(name, local)
        sound = self.team.gather(manifest is not None)
        if not all(sound) or manifest is None:
            logger.warning("%s/%s is damaged; trying the one before", self.folder, name)
            return False
        if manifest.architecture != state.architecture:
            logger.warning("%s/%s is of another architecture or other code; passing it over", self.folder, name)
            return False
        tensors = state.tensors()
        load(tensors, storage_reader=FileSystemReader(local))
        state.restore(tensors, manifest.numbers, self._progress(manifest))
        self.team.gather(None)  # every process has read before the files go
        if self.team.local_rank == 0:
            shutil.rmtree(local)
        logger.info("resumed %s from %s/%s", said_position(state), self.folder, name)
        return True

    def _fetch(self, name: str, local: Path) -> Manifest | None:
        """The manifest, its files now in `local`; None when one of them is absent or differs from its digest.

        One process of each machine fetches the files for all there.
        """
        try:
            manifest = Manifest.model_validate_json(self.objects.get(f"{self.folder}/{name}/{MANIFEST}"))
            if self.team.local_rank == 0:
                shutil.rmtree(local, ignore_errors=True)
                local.mkdir(parents=True)
                for file in manifest.files:
                    self.objects.fetch(f"{self.folder}/{name}/{file}", local / file)
                if any(file_digest(local / file) != digest for file, digest in manifest.files.items()):
                    return None
        except (NotFound, ValueError):  # pydantic's error for a manifest that is no manifest is a ValueError
            return None
        return manifest

    def _progress(self, manifest: Manifest) -> Progress:
        """This process's own; where their number changed, the leading one takes the whole loss."""
        losses = list(manifest.losses)
        if len(losses) != self.team.size:
            losses = [sum(losses)] + [0.0] * (self.team.size - 1)
        chance = torch.tensor(list(bytes.fromhex(manifest.chance)), dtype=torch.uint8)
        return Progress(batches=manifest.batches, loss=torch.tensor(losses[self.team.rank]), chance=chance)

    def _names(self) -> list[str]:
        """Finished checkpoints, oldest first."""
        paths = (path.rsplit("/", 2) for path in self.objects.list(self.folder))
        return sorted(name for _, name, file in paths if file == MANIFEST)

    def _keep(self, names: set[str]) -> None:
        """Remove what is not among the checkpoints `names`, finished or not."""
        paths = self.objects.list(self.folder)
        for path in sorted(paths, key=lambda path: not path.endswith(MANIFEST)):
            if path.rsplit("/", 2)[1] not in names:
                self.objects.delete(path)
