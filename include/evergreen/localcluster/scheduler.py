"""Gives pending pods a node, in the order they came; what does not fit waits, and the pod says why."""

from __future__ import annotations

from evergreen.localcluster.events import EventRecorder
from evergreen.localcluster.faults import FaultBook, FaultKind
from evergreen.localcluster.node_pool import NodePool
from evergreen.localcluster.pod_status import condition
from evergreen.localcluster.store import Store
from evergreen.localcluster.wire import Json


class Scheduler:
    """Binds pods to nodes. A pod that does not fit never blocks a smaller one behind it."""

    def __init__(self, store: Store, events: EventRecorder, nodes: NodePool, faults: FaultBook) -> None:
        self._store = store
        self._events = events
        self._nodes = nodes
        self._faults = faults

    def run(self) -> None:
        """Try every pod that has no node yet."""
        for pod in self._store.all("pods"):
            waits = not pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending"
            if waits and not pod["metadata"].get("deletionTimestamp"):
                self._schedule(pod)

    def _schedule(self, pod: Json) -> None:
        if (fault := self._faults.hold(FaultKind.NEVER_SCHEDULED, pod)) is not None:
            everywhere = ["Insufficient nvidia.com/gpu"] * len(self._nodes.nodes)
            self._refuse(pod, fault.message or self._nodes.unavailable(everywhere))
            return
        node, why_not = self._nodes.place(pod, self._store.all("pods"))
        if node is None:
            self._refuse(pod, why_not)
            return
        old = pod["status"].get("conditions") or []
        status = {**pod["status"], "conditions": [condition(old, "PodScheduled", True)]}
        pod = {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}
        pod = self._store.update("pods", pod)
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._events.normal(pod, "Scheduled", f"Successfully assigned {name} to {node}")

    def _refuse(self, pod: Json, message: str) -> None:
        old = pod["status"].get("conditions") or []
        if any(item.get("message") == message for item in old):
            return
        unscheduled = condition(old, "PodScheduled", False, "Unschedulable", message)
        pod = self._store.update("pods", {**pod, "status": {**pod["status"], "conditions": [unscheduled]}})
        self._events.warning(pod, "FailedScheduling", message)
