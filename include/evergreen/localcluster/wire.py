"""How Kubernetes writes times and objects on the wire."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]

LOG_STAMP_LENGTH = 30
"""Characters of a log line's time: fixed width, so that text order is time order."""


def rfc3339(seconds: float | None = None) -> str:
    """A moment (epoch seconds, default now) as objects carry it: UTC, whole seconds."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_nano(nanoseconds: int) -> str:
    """A moment (epoch nanoseconds) as log lines carry it: UTC, always nine decimals."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09d}Z"


def epoch_seconds(text: str) -> float:
    """The moment an RFC 3339 text names, in epoch seconds; ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()


def epoch_nanoseconds(text: str) -> int:
    """The moment an RFC 3339 text names, in epoch nanoseconds; ValueError when it is none."""
    whole, dot, rest = text.partition(".")
    if not dot:
        return int(epoch_seconds(text)) * 1_000_000_000
    digits = rest.rstrip("Zz").partition("+")[0].partition("-")[0]
    zone = rest[len(digits) :]
    return int(epoch_seconds(whole + zone)) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))


def write_json(path: Path, content: Json, *, mode: int = 0o600) -> None:
    """Replace a file in one step: readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as stream:
        json.dump(content, stream)
    draft.replace(path)


def read_json(path: Path) -> Json | None:
    """What `write_json` left there, or None where there is no file."""
    try:
        content: Json = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return content
