"""A container's log file: every line of output once, after the time it arrived. Imported by the shim."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

from evergreen.localcluster.wire import rfc3339_nano

_CHUNK_BYTES = 1 << 16
LONGEST_LINE_BYTES = 1 << 18
"""A longer line is cut into several: output without newlines must not fill the memory."""
UNFINISHED = b"\t"
"""Stands between time and text of a line that the container never ended with a newline of its own."""
_DRAIN_SECONDS = 5.0
_NANOSECONDS = 1_000_000_000


class LogWriter:
    """Appends lines to one file; the times before them strictly increase, so each line can be named by its own."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._rest = b""
        self._last_stamp = 0
        self._lost_lines = 0

    def pump(self, output: int) -> bool:
        """Move what can be read now into the file; False at the end of the output."""
        try:
            chunk = os.read(output, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        self._append(lines)
        return True

    def drain(self, output: int) -> None:
        """Move everything that is left, up to the end of the output."""
        give_up_at = time.monotonic() + _DRAIN_SECONDS
        while (left := give_up_at - time.monotonic()) > 0:
            readable, _, _ = select.select([output], [], [], left)
            if not readable or not self.pump(output):
                return

    def close(self) -> None:
        """Write a last line that lacked its newline, marked as such, tell of lost ones, and close the file."""
        self._append([])
        self._append([self._rest] if self._rest else [], separator=UNFINISHED)
        self._rest = b""
        os.close(self._file)

    def _append(self, lines: list[bytes], *, separator: bytes = b" ") -> None:
        if self._lost_lines:
            lines = [b"[%d lines lost: disk full]" % self._lost_lines, *lines]
        if not lines:
            return
        first = max(time.time_ns(), self._last_stamp + 1)
        self._last_stamp = first + len(lines) - 1
        stamps = _stamps(first, len(lines))
        stamped = (b"%s%s%s\n" % (stamp, separator, line) for stamp, line in zip(stamps, lines, strict=True))
        self._write(b"".join(stamped), len(lines))

    def _write(self, text: bytes, num_lines: int) -> None:
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(text):
                written += os.write(self._file, text[written:])
            self._lost_lines = 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Blocking here would freeze the container: losing lines, and saying so, is the lesser evil.
            os.ftruncate(self._file, size)
            self._lost_lines += num_lines


def _stamps(first: int, count: int) -> Iterator[bytes]:
    """So many successive nanoseconds as text; formatting the date anew for each would cost most of the time."""
    second, date = -1, b""
    for moment in range(first, first + count):
        if moment // _NANOSECONDS != second:
            second = moment // _NANOSECONDS
            date = rfc3339_nano(second * _NANOSECONDS).partition(".")[0].encode()
        yield b"%s.%09dZ" % (date, moment % _NANOSECONDS)
