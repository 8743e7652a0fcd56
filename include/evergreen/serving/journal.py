"""A file of acknowledged predictions that survives the process: one frame a request, torn ends recognised.

    segment = frame*
    frame   = length u32 | crc32 u32 | payload        (little endian)

A payload is a whole Arrow IPC stream. A frame is written by one write(), so killing the process loses
nothing that was written; losing the machine's power may lose what its disk did not have yet.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

import polars as pl

from evergreen.errors import LakeUnavailable

HEADER = struct.Struct("<II")
SUFFIX = ".journal"
NAME = re.compile(r"^(\d{9})\.journal$")


@dataclass(frozen=True)
class Segment:
    """A journal file that nobody writes any more."""

    path: Path

    def read(self) -> pl.DataFrame | None:
        """Its rows in the order written; a torn end is left out, None when no frame is whole."""
        frames = [pl.read_ipc_stream(frame) for frame in _frames(self.path.read_bytes())]
        return pl.concat(frames) if frames else None

    def remove(self) -> None:
        """Returns when the file is gone."""
        self.path.unlink(missing_ok=True)


class Journal:
    """The segments of one folder, the last of which is being written. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file: int | None = None
        self._size = 0
        self._number = max((int(match[1]) for p in folder.iterdir() if (match := NAME.match(p.name))), default=0)

    def append(self, rows: pl.DataFrame) -> None:
        """Returns when `rows` are in the journal; LakeUnavailable, and nothing written, when they cannot be."""
        frame = _frame(rows)
        try:
            if self._file is None:
                self._file = self._open()
            self._write(self._file, frame)
        except OSError as error:
            raise LakeUnavailable(
                f"Journal {self._folder}",
                found=error.strerror or str(error),
                wanted="room for one more prediction",
                remedy="Free space or mend permissions there; no prediction is given that could be lost.",
            ) from error

    def seal(self) -> None:
        """Returns when everything written so far is in sealed segments."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def sealed(self) -> list[Segment]:
        """Segments nobody writes, oldest first."""
        paths = sorted(p for p in self._folder.iterdir() if NAME.match(p.name))
        return [Segment(p) for p in paths if self._file is None or p != self._path]

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._number:09d}{SUFFIX}"

    def _open(self) -> int:
        """A new segment."""
        self._number += 1
        self._size = 0
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def _write(self, file: int, frame: bytes) -> None:
        """One whole frame, or none: a part of one would hide the frames after it from a reader."""
        try:
            if os.write(file, frame) != len(frame):
                raise OSError(ENOSPC, os.strerror(ENOSPC))  # what a short write to a file means
        except OSError:
            os.ftruncate(file, self._size)
            raise
        self._size += len(frame)


def _frame(rows: pl.DataFrame) -> bytes:
    payload = io.BytesIO()
    rows.write_ipc_stream(payload)
    data = payload.getvalue()
    return HEADER.pack(len(data), zlib.crc32(data)) + data


def _frames(data: bytes) -> Iterator[bytes]:
    start = 0
    while start + HEADER.size <= len(data):
        length, crc = HEADER.unpack_from(data, start)
        payload = data[start + HEADER.size : start + HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            return
        yield payload
        start += HEADER.size + length
