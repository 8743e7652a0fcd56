"""Lets the faults that are on strike the pods they are meant for."""

from __future__ import annotations

import time
from typing import Protocol

from evergreen.localcluster.events import EventRecorder
from evergreen.localcluster.faults import Fault, FaultBook, FaultKind
from evergreen.localcluster.kubelet import Kubelet
from evergreen.localcluster.node_pool import NodePool
from evergreen.localcluster.pod_directory import StopOrder
from evergreen.localcluster.pod_status import condition
from evergreen.localcluster.store import Store
from evergreen.localcluster.wire import Json, rfc3339

_LOW_ON_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. "
_EVICTION_GRACE_SECONDS = 1.0
"""Hard eviction, as by the kubelet: no time to finish anything, a second to die in order."""
_PREEMPTED_STAYS_SECONDS = 1.0
_LOST_STAYS_SECONDS = 5.0
"""Minutes in a real cluster (tolerationSeconds 300); long enough here to be seen by a poll."""
_WHILE_RUNNING = (FaultKind.EVICT, FaultKind.OOM, FaultKind.DELETE, FaultKind.NODE_LOST)


class Deleter(Protocol):
    """Whoever can delete a pod as the API does."""

    def __call__(self, pod: Json, grace_seconds: float | None = None) -> Json:
        """The pod, marked for deletion."""
        ...


class FaultInjector:
    """Strikes pods, once each fault and pod."""

    def __init__(
        self, store: Store, events: EventRecorder, kubelet: Kubelet, nodes: NodePool, faults: FaultBook, delete: Deleter
    ) -> None:
        self._store = store
        self._events = events
        self._kubelet = kubelet
        self._nodes = nodes
        self._faults = faults
        self._delete = delete

    def run(self, pod: Json) -> None:
        """Strike one bound pod that has not ended, if a fault is due for it."""
        if not self._faults.all() or pod["metadata"].get("deletionTimestamp"):
            return
        if not any(self._kubelet.handle(pod, c["name"]).launched for c in self._kubelet.containers(pod)):
            if fault := self._faults.strike(FaultKind.PREEMPT_BEFORE_START, pod):
                self._preempt(pod, fault)
            return
        seconds = self._kubelet.running_seconds(pod)
        if seconds is None:
            return
        for kind in _WHILE_RUNNING:
            if fault := self._faults.strike(kind, pod, seconds):
                self._strike(pod, fault)
                return

    def _strike(self, pod: Json, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.EVICT:
                self._evict(pod, fault)
            case FaultKind.OOM:
                self._kubelet.kill_for_memory(pod)
            case FaultKind.DELETE:
                self._delete(pod)
            case FaultKind.NODE_LOST:
                self._lose_node(pod["spec"]["nodeName"])

    def _evict(self, pod: Json, fault: Fault) -> None:
        message = fault.message or _LOW_ON_MEMORY
        self._events.warning(pod, "Evicted", message)
        order = StopOrder(
            at=time.time(),
            grace_seconds=_EVICTION_GRACE_SECONDS,
            reason="Evicted",
            message=message,
            disruption="TerminationByKubelet",
        )
        self._kubelet.stop(pod, order)

    def _preempt(self, pod: Json, fault: Fault) -> None:
        message = fault.message or "default-scheduler: preempting to accommodate a higher priority pod"
        node = pod["spec"]["nodeName"]
        self._events.normal(pod, "Preempted", f"Preempted by a pod of higher priority on node {node}")
        self._disrupt(pod, "PreemptionByScheduler", message, {})
        order = StopOrder(
            at=time.time(), grace_seconds=0.0, message=message, removed_after_seconds=_PREEMPTED_STAYS_SECONDS
        )
        self._kubelet.stop(pod, order)

    def _lose_node(self, node: str) -> None:
        """Everything on the node dies unheard; its pods look alive until they are garbage collected."""
        self._nodes.lose(node, _LOST_STAYS_SECONDS + 1.0)
        for pod in self._store.all("pods"):
            if pod["spec"].get("nodeName") == node and pod["status"]["phase"] in ("Pending", "Running"):
                self._lose(pod, node)

    def _lose(self, pod: Json, node: str) -> None:
        message = f"Node {node} which was running pod {pod['metadata']['name']} is unresponsive"
        self._events.warning(pod, "NodeNotReady", "Node is not ready")
        self._disrupt(pod, "DeletionByTaintManager", message, {"reason": "NodeLost", "message": message})
        order = StopOrder(at=time.time(), grace_seconds=0.0, removed_after_seconds=_LOST_STAYS_SECONDS, frozen=True)
        self._kubelet.stop(pod, order)

    def _disrupt(self, pod: Json, reason: str, message: str, extra: Json) -> None:
        """Mark the pod as being deleted, and say by whom."""
        kept = [c for c in pod["status"].get("conditions") or [] if c["type"] not in ("Ready", "DisruptionTarget")]
        kept += [
            condition(kept, "Ready", False, "NodeNotReady" if extra else "ContainersNotReady"),
            condition(kept, "DisruptionTarget", True, reason, message),
        ]
        metadata = {**pod["metadata"], "deletionTimestamp": rfc3339(), "deletionGracePeriodSeconds": 0}
        self._store.update(
            "pods", {**pod, "metadata": metadata, "status": {**pod["status"], "conditions": kept, **extra}}
        )
