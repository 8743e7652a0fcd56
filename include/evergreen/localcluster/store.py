"""The objects of the cluster: kept in memory, one JSON file each, every change numbered for watchers."""

from __future__ import annotations

import asyncio
import time
import uuid
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evergreen.localcluster.api_failure import already_exists, conflict, expired, not_found
from evergreen.localcluster.wire import Json, read_json, rfc3339, write_json

HISTORY_KEPT = 10_000
"""Changes a watcher may lag behind before it gets 410 and must list again."""

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One numbered change of one object; `previous` is None for a new one."""

    revision: int
    type: ChangeType
    plural: str
    item: Json
    previous: Json | None


class Store:
    """All objects by plural, namespace and name. Stored objects are never edited in place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._items: dict[str, dict[tuple[str, str], Json]] = {}
        self._history: list[Change] = []
        self.changed = asyncio.Event()
        self._load()
        # Revisions of an earlier life stay behind us even where their objects are gone.
        newest = max((int(item["metadata"]["resourceVersion"]) for item in self._everything()), default=0)
        self.revision = max(newest, time.time_ns() // 1_000_000)
        self.oldest = self.revision

    def _load(self) -> None:
        for path in sorted(self.directory.glob("*/*.json")):
            item = read_json(path)
            if item is not None:
                metadata = item["metadata"]
                key = (metadata.get("namespace", ""), metadata["name"])
                self._items.setdefault(path.parent.name, {})[key] = item

    def _everything(self) -> list[Json]:
        return [item for items in self._items.values() for item in items.values()]

    def all(self, plural: str, namespace: str | None = None) -> list[Json]:
        """Every object of a kind, oldest first; of one namespace where one is named."""
        items = self._items.get(plural, {})
        return [item for key, item in items.items() if namespace is None or key[0] == namespace]

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        """The object of that name, or None."""
        return self._items.get(plural, {}).get((namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> Json:
        """The object of that name; 404 when there is none."""
        item = self.find(plural, namespace, name)
        if item is None:
            raise not_found(plural, name)
        return item

    def create(self, plural: str, item: Json) -> Json:
        """The stored object, with uid, time and revision; 409 when the name is taken."""
        metadata = item["metadata"]
        if self.find(plural, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise already_exists(plural, metadata["name"])
        born = {"uid": str(uuid.uuid4()), "creationTimestamp": rfc3339()}
        return self._commit("ADDED", plural, {**item, "metadata": {**metadata, **born}}, None)

    def update(self, plural: str, item: Json) -> Json:
        """The stored object after the change; 404 when it is gone, 409 when it is another one by now."""
        metadata = item["metadata"]
        current = self.get(plural, metadata.get("namespace", ""), metadata["name"])
        if current["metadata"]["uid"] != metadata["uid"]:
            raise conflict(plural, metadata["name"], "the object was replaced by another of the same name")
        return self._commit("MODIFIED", plural, item, current)

    def remove(self, plural: str, item: Json) -> Json:
        """The object as it was last, now gone."""
        return self._commit("DELETED", plural, item, item)

    def _commit(self, type_: ChangeType, plural: str, item: Json, previous: Json | None) -> Json:
        revision = self.revision + 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(revision)}}
        key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        path = self.directory / plural / f"{key[0]}_{key[1]}.json"
        # Disk first: what a client was told survives the death of this process.
        if type_ == "DELETED":
            path.unlink(missing_ok=True)
            self._items[plural].pop(key, None)
        else:
            write_json(path, item)
            self._items.setdefault(plural, {})[key] = item
        self.revision = revision
        self._remember(Change(revision=revision, type=type_, plural=plural, item=item, previous=previous))
        return item

    def _remember(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > 2 * HISTORY_KEPT:
            self.oldest = self._history[-HISTORY_KEPT - 1].revision
            del self._history[:-HISTORY_KEPT]
        self.changed.set()
        self.changed = asyncio.Event()

    def since(self, revision: int) -> list[Change]:
        """Every change after a revision, in order; 410 when some of them are no longer kept."""
        if revision < self.oldest:
            raise expired(revision, self.oldest)
        return self._history[bisect_right(self._history, revision, key=lambda change: change.revision) :]
