"""Watch streams: every change of the selected objects after a revision, once and in order."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from evergreen.localcluster.api_failure import ApiFailure
from evergreen.localcluster.selectors import Matcher
from evergreen.localcluster.store import Change, Store
from evergreen.localcluster.wire import Json

_LONGEST_WAIT_SECONDS = 1.0
"""How soon a quiet watch notices that the server is closing."""


@dataclass(frozen=True, kw_only=True)
class WatchRequest:
    """What is watched."""

    plural: str
    namespace: str | None
    matches: Matcher
    since: int | None
    """Revision after which changes are wanted; None starts with all that is there."""
    timeout_seconds: float | None


async def watch(store: Store, wanted: WatchRequest, is_closing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """One JSON line a change; 410 as a line when the revision is too old; ends at the timeout."""
    ends_at = math.inf if wanted.timeout_seconds is None else time.monotonic() + wanted.timeout_seconds
    position = store.revision if wanted.since is None else wanted.since
    if wanted.since is None:
        yield b"".join(
            _line("ADDED", item) for item in store.all(wanted.plural, wanted.namespace) if wanted.matches(item)
        )
    while not is_closing():
        changed = store.changed
        try:
            changes = store.since(position)
        except ApiFailure as failure:
            yield _line("ERROR", failure.as_status())
            return
        if changes:
            position = changes[-1].revision
            yield _lines(changes, wanted)
        if time.monotonic() >= ends_at:
            return
        if not changes:
            await _wait(changed, ends_at - time.monotonic())


def _lines(changes: list[Change], wanted: WatchRequest) -> bytes:
    typed = ((_type_for(change, wanted), change.item) for change in changes)
    return b"".join(_line(type_, item) for type_, item in typed if type_ is not None)


def _type_for(change: Change, wanted: WatchRequest) -> str | None:
    """How the change looks through the selector: an object may come into sight, or leave it."""
    if change.plural != wanted.plural:
        return None
    if wanted.namespace is not None and change.item["metadata"].get("namespace") != wanted.namespace:
        return None
    seen_before = change.previous is not None and wanted.matches(change.previous)
    seen_now = change.type != "DELETED" and wanted.matches(change.item)
    match (seen_before, seen_now):
        case (False, False):
            return None
        case (True, False):
            return "DELETED"
        case (False, True):
            return "ADDED"
        case _:
            return "MODIFIED"


def _line(type_: str, item: Json) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode() + b"\n"


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(min(_LONGEST_WAIT_SECONDS, max(0.0, seconds))):
            await changed.wait()
    except TimeoutError:
        return
