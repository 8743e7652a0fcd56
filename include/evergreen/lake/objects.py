"""Plain objects of the lake: atomic puts, verified gets. Paths are relative to the lake's root."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from evergreen.artifacts import ObjectRef
from evergreen.errors import IntegrityError, LakeUnavailable, NotFound

CHUNK_BYTES = 1 << 20


class Objects(Protocol):
    """What every kind of lake can do with a plain object. A put is seen whole or not at all."""

    def put(self, path: str, data: bytes) -> ObjectRef:
        """The object after writing `data` at `path`, replacing what was there atomically."""

    def put_file(self, path: str, local: Path) -> ObjectRef:
        """The object after uploading the file `local`, which may be moved away."""

    def get(self, path: str) -> bytes:
        """The bytes at `path`; NotFound when there are none."""

    def fetch(self, path: str, local: Path) -> None:
        """Download the object at `path` to the file `local`; NotFound when there is none."""

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""

    def delete(self, path: str) -> None:
        """Remove the object at `path`; nothing happens when there is none.

        Only checkpoints, merged arrivals with their notes, and served events that are clean now are ever removed.
        """

    def list(self, prefix: str) -> list[str]:
        """Paths of all objects below the folder `prefix`, sorted."""

    def digest(self, path: str) -> str:
        """SHA-256 of the bytes now at `path`; NotFound when there are none."""

    def verified_files(self, folder: str, digests: Mapping[str, str]) -> AbstractContextManager[Path]:
        """A local folder, to be read within the block, of the objects of `folder` named in `digests` (name: SHA-256).

        NotFound when one is not there, IntegrityError when its bytes are others.
        """


def get_verified(objects: Objects, ref: ObjectRef) -> bytes:
    """The bytes of `ref`; IntegrityError when they are not the ones its digest was taken of."""
    data = objects.get(ref.path)
    require_digest(ref.path, found=hashlib.sha256(data).hexdigest(), wanted=ref.digest)
    return data


def require_digest(thing: str, *, found: str, wanted: str) -> None:
    """Nothing, when the digests agree; IntegrityError otherwise."""
    if found != wanted:
        raise IntegrityError(
            thing,
            found=f"digest {found[:12]}",
            wanted=f"digest {wanted[:12]}",
            remedy="The bytes were altered after they were written; run the task that makes them again.",
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a local file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class LocalObjects:
    """Objects as files below one directory; a put is a rename on the same file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, data: bytes) -> ObjectRef:
        with self._writing(path) as staged:
            staged.write_bytes(data)
        return ObjectRef(path=path, digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    def put_file(self, path: str, local: Path) -> ObjectRef:
        ref = ObjectRef(path=path, digest=file_digest(local), size_bytes=local.stat().st_size)
        with self._writing(path) as staged:
            shutil.move(local, staged)
        return ref

    def get(self, path: str) -> bytes:
        with self._reading(path):
            return (self.root / path).read_bytes()

    def fetch(self, path: str, local: Path) -> None:
        with self._reading(path), (self.root / path).open("rb") as source:
            try:
                with local.open("wb") as copy:
                    shutil.copyfileobj(source, copy, CHUNK_BYTES)
            except OSError as error:
                raise unavailable(f"Copying {path} to {local}", error) from error

    def exists(self, path: str) -> bool:
        return (self.root / path).is_file()

    def delete(self, path: str) -> None:
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise unavailable(f"Removing {path}", error) from error

    def list(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        return sorted(str(p.relative_to(self.root)) for p in folder.rglob("*") if p.is_file())

    def digest(self, path: str) -> str:
        with self._reading(path):
            return file_digest(self.root / path)

    @contextmanager
    def verified_files(self, folder: str, digests: Mapping[str, str]) -> Iterator[Path]:
        for name, wanted in digests.items():
            require_digest(f"{folder}/{name}", found=self.digest(f"{folder}/{name}"), wanted=wanted)
        yield self.root / folder

    @contextmanager
    def _writing(self, path: str) -> Iterator[Path]:
        """A staging file that becomes `path` when the block ends well, and vanishes otherwise."""
        target = self.root / path
        staged = self.root / "_staging" / uuid.uuid4().hex
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            yield staged
            _flush(staged)
            staged.replace(target)
        except OSError as error:
            raise unavailable(f"Writing {path}", error) from error
        finally:
            with suppress(OSError):  # the error above says what is wrong; a leftover is harmless
                staged.unlink(missing_ok=True)

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFound(
                f"Object {path}",
                found="nothing",
                wanted="an object of the lake",
                remedy=f"Run the task that writes it, or check the lake at {self.root}.",
            ) from error
        except OSError as error:
            raise unavailable(f"Reading {path}", error) from error


def unavailable(thing: str, error: OSError) -> LakeUnavailable:
    """The lake's own error for one of the operating system's, remedy included."""
    return LakeUnavailable(
        thing,
        found=error.strerror or str(error),
        wanted="a lake that can be read and written",
        remedy="Free space or mend permissions on the lake's disk, then run the task again; nothing was half-written.",
    )


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
