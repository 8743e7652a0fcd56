"""What happened to a pod, told as Kubernetes events; repeats of the same story are counted, not listed."""

from __future__ import annotations

import time
import uuid
from typing import Literal

from evergreen.localcluster.store import Store
from evergreen.localcluster.wire import Json, epoch_seconds, rfc3339

KEPT_SECONDS = 3600.0
"""Kubernetes' own default (--event-ttl): events outlive their pod by an hour."""


class EventRecorder:
    """Writes the events of pods into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def normal(self, pod: Json, reason: str, message: str, *, container: str | None = None) -> None:
        """Something that was to be expected."""
        self._record("Normal", pod, reason, message, container)

    def warning(self, pod: Json, reason: str, message: str, *, container: str | None = None) -> None:
        """Something a person should look at."""
        self._record("Warning", pod, reason, message, container)

    def _record(
        self, type_: Literal["Normal", "Warning"], pod: Json, reason: str, message: str, container: str | None
    ) -> None:
        metadata = pod["metadata"]
        known = self._same_story(metadata, reason, message)
        if known is not None:
            again = {"count": known["count"] + 1, "lastTimestamp": rfc3339()}
            self._store.update("events", {**known, **again})
            return
        self._store.create("events", _new_event(type_, pod, reason, message, container))

    def _same_story(self, metadata: Json, reason: str, message: str) -> Json | None:
        for event in self._store.all("events", metadata["namespace"]):
            same_pod = event["involvedObject"]["uid"] == metadata["uid"]
            if same_pod and (event["reason"], event["message"]) == (reason, message):
                return event
        return None

    def forget_old(self, now: float | None = None) -> None:
        """Drop events whose last repeat is more than an hour ago."""
        oldest = (time.time() if now is None else now) - KEPT_SECONDS
        for event in self._store.all("events"):
            if epoch_seconds(event["lastTimestamp"]) < oldest:
                self._store.remove("events", event)


def _new_event(type_: str, pod: Json, reason: str, message: str, container: str | None) -> Json:
    metadata = pod["metadata"]
    involved = {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    if container is not None:
        involved["fieldPath"] = f"spec.containers{{{container}}}"
    component = "default-scheduler" if reason in ("Scheduled", "FailedScheduling", "Preempted") else "kubelet"
    source = {"component": component}
    if component == "kubelet" and (node := pod["spec"].get("nodeName")):
        source["host"] = node
    now = rfc3339()
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": involved,
        "type": type_,
        "reason": reason,
        "message": message,
        "source": source,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": source.get("host", ""),
    }
