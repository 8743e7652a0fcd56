"""What a container left to be told about its end: the file it wrote, or the last words of its log."""

from __future__ import annotations

import os
from pathlib import Path

from evergreen.localcluster.log_reader import LogRequest, as_written, start_offset
from evergreen.localcluster.pod_status import Terminated
from evergreen.localcluster.wire import LOG_STAMP_LENGTH, Json

FILE_NAME = "termination-log"
"""In the container's directory; the container finds it in EVERGREEN_TERMINATION_LOG."""
_LONGEST_FILE_BYTES = 4096
_LONGEST_LOG_BYTES = 2048
_LONGEST_LOG_LINES = 80


def termination_message(container: Json, directory: Path, ended: Terminated) -> str | None:
    """The message by the kubelet's rules: the file, else the log of a failure where the pod asks for that."""
    if ended.message is not None:
        return ended.message
    text = _end_of(directory / FILE_NAME)
    if not text and ended.exit_code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        text = last_words(directory / "log")
    return text or None


def _end_of(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LONGEST_FILE_BYTES))
        return stream.read().decode(errors="replace")


def last_words(log: Path) -> str:
    """The last 2048 bytes or 80 lines of a log, whichever is less."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(start_offset(stream.fileno(), LogRequest(tail_lines=_LONGEST_LOG_LINES)))
        lines = [line[LOG_STAMP_LENGTH + 1 :] for line in as_written(stream.read()).split(b"\n")]
    return b"\n".join(lines)[-_LONGEST_LOG_BYTES:].decode(errors="replace")
