"""A container's log as clients ask for it: since a time, the last lines, so many bytes, and on as it grows.

Lines carry strictly increasing times of fixed width, so a reader that comes back with the time of its last line
misses nothing and, leaving that one line out, gets nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from evergreen.localcluster.log_writer import UNFINISHED
from evergreen.localcluster.wire import LOG_STAMP_LENGTH, rfc3339_nano

_CHUNK_BYTES = 1 << 18
_LOOK_AGAIN_SECONDS = 0.05
_STAMP = re.compile(rb"^[^ \n]{%d} " % LOG_STAMP_LENGTH, re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """Which part of a log is wanted."""

    follow: bool = False
    timestamps: bool = False
    since_nanoseconds: int | None = None
    """Only lines of this moment or later, in epoch nanoseconds."""
    tail_lines: int | None = None
    limit_bytes: int | None = None


async def read_log(path: Path, wanted: LogRequest, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The wanted lines, whole ones only, in order, each once; following ends when `is_over` and all is read."""
    if not path.exists():
        return
    with path.open("rb", buffering=0) as log:
        log.seek(start_offset(log.fileno(), wanted))
        left = wanted.limit_bytes
        async for lines in _lines(log.fileno(), is_over if wanted.follow else _at_once):
            lines = as_written(lines)
            text = lines if wanted.timestamps else _STAMP.sub(b"", lines)
            if left is not None:
                text, left = text[:left], left - len(text)
            yield text
            if left is not None and left <= 0:
                return


def as_written(lines: bytes) -> bytes:
    """The same lines, the last one without its newline where the container wrote none."""
    last = lines.rfind(b"\n", 0, -1) + 1
    text = last + LOG_STAMP_LENGTH + 1
    if lines[text - 1 : text] != UNFINISHED:
        return lines
    return lines[: text - 1] + b" " + lines[text:-1]


def _at_once() -> bool:
    return True


async def _lines(log: int, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Blocks of whole lines from the current position on."""
    rest = b""
    while True:
        # Asked before reading: what was written before the end is then read for certain.
        over = is_over()
        chunk = os.read(log, _CHUNK_BYTES)
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
        if not chunk and over:
            return
        if not chunk:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def start_offset(log: int, wanted: LogRequest) -> int:
    """Where in the file the wanted lines begin: both the tail and the time must allow a line."""
    # A line that is just being written does not count yet.
    size = _line_start(log, os.fstat(log).st_size, 0)
    offsets = [0]
    if wanted.tail_lines is not None:
        offsets.append(_tail_offset(log, size, wanted.tail_lines))
    if wanted.since_nanoseconds is not None:
        offsets.append(_since_offset(log, size, rfc3339_nano(max(0, wanted.since_nanoseconds)).encode()))
    return max(offsets)


def _tail_offset(log: int, size: int, num_lines: int) -> int:
    """The start of the last lines, found from the end of the file."""
    newlines_wanted = num_lines + 1
    position = size
    while position > 0:
        start = max(0, position - _CHUNK_BYTES)
        block = os.pread(log, position - start, start)
        found = block.count(b"\n")
        if found >= newlines_wanted:
            at = len(block)
            for _ in range(newlines_wanted):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        newlines_wanted -= found
        position = start
    return 0


def _since_offset(log: int, size: int, stamp: bytes) -> int:
    """The first line at or after a time, by bisection: lines are sorted by their time."""
    low, high = 0, size  # the answer lies in [low, high]; low always starts a line
    while low < high:
        middle = (low + high) // 2
        start = _line_start(log, middle, low)
        if os.pread(log, LOG_STAMP_LENGTH, start) < stamp:
            low = _next_line(log, start, size)
        else:
            high = start
    return low


def _line_start(log: int, offset: int, floor: int) -> int:
    """Where the line around an offset begins."""
    while offset > floor:
        start = max(floor, offset - _CHUNK_BYTES)
        at = os.pread(log, offset - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        offset = start
    return floor


def _next_line(log: int, offset: int, size: int) -> int:
    while offset < size:
        block = os.pread(log, _CHUNK_BYTES, offset)
        at = block.find(b"\n")
        if at >= 0:
            return offset + at + 1
        offset += len(block)
    return size
