"""What happened to a pod, told as Kubernetes events; repeats of the same story are counted, not listed."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Literal

from evergreen.localcluster.store import Store
from evergreen.localcluster.wire import Json, epoch_seconds, rfc3339

EventType = Literal["Normal", "Warning"]
KEPT_SECONDS = 3600.0
"""Kubernetes' own default (--event-ttl): events outlive their pod by an hour."""


_SCHEDULER = "default-scheduler"
_BY_SCHEDULER = {"Scheduled": "Binding", "FailedScheduling": "Scheduling", "Preempted": "Preempting"}
"""Reasons the scheduler gives, and the action that each belongs to."""
_BY_CONTROLLER = {"NodeNotReady": "node-controller", "TaintManagerEviction": "taint-eviction-controller"}


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

    def told(self, pod: Json, reason: str, message: str) -> bool:
        """Whether this was said of the pod before."""
        return any((e["reason"], e["message"]) == (reason, message) for e in self._of(pod))

    def _of(self, pod: Json) -> list[Json]:
        uid = pod["metadata"]["uid"]
        events = self._store.all("events", pod["metadata"]["namespace"])
        return [event for event in events if event["involvedObject"]["uid"] == uid]

    def _record(self, type_: EventType, pod: Json, reason: str, message: str, container: str | None) -> None:
        event = _new_event(type_, pod, reason, message, container)
        for known in self._of(pod):
            if known["count"] is not None and _story(known) == _story(event):
                again = {"count": known["count"] + 1, "lastTimestamp": event["lastTimestamp"]}
                self._store.update("events", {**known, **again})
                return
        self._store.create("events", event)

    def forget_old(self, now: float | None = None) -> None:
        """Drop events whose last repeat is more than an hour ago."""
        oldest = (time.time() if now is None else now) - KEPT_SECONDS
        for event in self._store.all("events"):
            if epoch_seconds(event["lastTimestamp"] or event["eventTime"]) < oldest:
                self._store.remove("events", event)


def _story(event: Json) -> tuple[object, ...]:
    return event["type"], event["reason"], event["message"], event["involvedObject"].get("fieldPath")


def _new_event(type_: EventType, pod: Json, reason: str, message: str, container: str | None) -> Json:
    metadata = pod["metadata"]
    name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": _involved(pod, container),
        "type": type_,
        "reason": reason,
        "message": message,
        **(_from_scheduler(reason) if reason in _BY_SCHEDULER else _from_component(pod, reason)),
    }


def _involved(pod: Json, container: str | None) -> Json:
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
        init = any(c["name"] == container for c in pod["spec"].get("initContainers") or [])
        involved["fieldPath"] = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
    return involved


def _from_scheduler(reason: str) -> Json:
    """As the scheduler writes: in the newer form, with one time of microseconds and no count."""
    return {
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "count": None,
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "action": _BY_SCHEDULER[reason],
        "reportingComponent": _SCHEDULER,
        "reportingInstance": f"{_SCHEDULER}-local",
    }


def _from_component(pod: Json, reason: str) -> Json:
    """As the kubelet and the controllers write: counted, with a first and a last time of whole seconds."""
    component = _BY_CONTROLLER.get(reason, "kubelet")
    node = pod["spec"].get("nodeName")
    host = {"host": node} if component == "kubelet" and node else {}
    now = rfc3339()
    return {
        "source": {"component": component, **host},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": host.get("host", ""),
    }
