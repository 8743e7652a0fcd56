"""Checkpoints that are one file each: the last two, each with its digest in front. Knows nothing of torch.

    <folder of the run>/<name>.ckpt = SHA-256 of the rest, what the trainer wrote

Names sort by age. See checkpoint_folder.py for the folder.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from evergreen.errors import NotFound
from evergreen.lake.objects import Objects

logger = logging.getLogger(__name__)

KEPT = 2
DIGEST_BYTES = 32


class CheckpointFiles:
    """The checkpoints of one run and of its retries."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects = objects
        self.folder = folder

    def write(self, name: str, payload: bytes) -> None:
        """Write one, then remove all but this one and the one before."""
        self.objects.put(self._path(name), hashlib.sha256(payload).digest() + payload)
        names = self._names()
        for other in set(names) - kept(names, name):
            self.objects.delete(self._path(other))

    def newest_first(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of each that is as it was written; a warning names another."""
        for name in reversed(self._names()):
            path = self._path(name)
            payload = self._payload(path)
            if payload is not None:
                yield path, payload

    def clear(self) -> None:
        """Remove all."""
        for path in self.objects.list(self.folder):
            self.objects.delete(path)

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

    def _names(self) -> list[str]:
        """Oldest first."""
        return sorted(PurePosixPath(path).stem for path in self.objects.list(self.folder) if path.endswith(".ckpt"))

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}.ckpt"


def kept(names: Iterable[str], written: str) -> set[str]:
    """Of the checkpoints `names` the newest two up to `written`: the run passed over what was there after it."""
    return set(sorted(name for name in names if name <= written)[-KEPT:])
