"""The cluster itself: objects, nodes, scheduler, kubelet and faults, moved on by one loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from evergreen.localcluster.admission import admit_pod, check_namespace, check_pod_update
from evergreen.localcluster.api_failure import conflict, not_found
from evergreen.localcluster.container_environment import Surroundings
from evergreen.localcluster.events import EventRecorder
from evergreen.localcluster.fault_injector import FaultInjector
from evergreen.localcluster.faults import FaultBook
from evergreen.localcluster.kubelet import Kubelet, Parts
from evergreen.localcluster.node_pool import NodePool
from evergreen.localcluster.nodes import Node
from evergreen.localcluster.pod_directory import StopOrder
from evergreen.localcluster.scheduler import Scheduler
from evergreen.localcluster.store import Store
from evergreen.localcluster.wire import Json, rfc3339

logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.1
"""How often running pods are looked at; changes through the API are acted on at once."""
_IDLE_SECONDS = 60.0
_TIDY_SECONDS = 60.0
_SETTLE_SECONDS = 0.01
_DISK_RETRY_SECONDS = 1.0
_ENDED_PODS_KEPT = 500
"""Ended pods beyond this number are removed, the oldest first, as Kubernetes' garbage collector does."""
SHUTDOWN_GRACE_SECONDS = 5.0
NAMESPACES = ("default", "kube-system")
_ENDED = ("Succeeded", "Failed")


class Cluster:
    """All parts together, and what the API may do with pods."""

    def __init__(self, directory: Path, nodes: Sequence[Node], environment: Mapping[str, str]) -> None:
        self.store = Store(directory / "objects")
        self.events = EventRecorder(self.store)
        self.nodes = NodePool(nodes)
        self.faults = FaultBook(directory / "faults.json")
        surroundings = Surroundings(store=self.store, inherited=environment)
        parts = Parts(
            store=self.store,
            events=self.events,
            faults=self.faults,
            pods=directory / "pods",
            surroundings=surroundings,
        )
        self.kubelet = Kubelet(parts)
        self._scheduler = Scheduler(self.store, self.events, self.nodes, self.faults)
        self._injector = FaultInjector(self.store, self.events, self.kubelet, self.nodes, self.faults, self.delete_pod)
        self.closing = False
        self._tidy_at = 0.0
        for name in NAMESPACES:
            if self.store.find("namespaces", "", name) is None:
                self.create_namespace(name)

    def create_namespace(self, name: str) -> Json:
        """The new namespace."""
        check_namespace(name)
        item = {
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        return self.store.create("namespaces", item)

    def require_namespace(self, name: str) -> None:
        """Nothing when the namespace exists; 404 otherwise."""
        if self.store.find("namespaces", "", name) is None:
            raise not_found("namespaces", name)

    def create_pod(self, namespace: str, body: Json) -> Json:
        """The new pod, Pending."""
        self.require_namespace(namespace)
        return self.store.create("pods", admit_pod(namespace, body))

    def update_pod(self, old: Json, new: Json) -> Json:
        """The pod with new metadata; 409 when the change was made to an older version of it."""
        metadata = old["metadata"]
        if new["metadata"].get("resourceVersion") != metadata["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict("pods", metadata["name"], why)
        check_pod_update(old, new)
        return self.store.update("pods", {**new, "status": old["status"]})

    def delete_pod(self, pod: Json, grace_seconds: float | None = None) -> Json:
        """The pod, marked for deletion; it vanishes once nothing of it runs any more."""
        if grace_seconds is None:
            grace_seconds = float(pod["spec"]["terminationGracePeriodSeconds"])
        bound = pod["spec"].get("nodeName") is not None
        if not bound or not self.kubelet.anything_runs(pod):
            self.kubelet.forget(pod)
            return pod
        marked = self._mark_deleted(pod, grace_seconds)
        self.kubelet.stop(marked, StopOrder(at=time.time(), grace_seconds=grace_seconds))
        return self.store.get("pods", marked["metadata"]["namespace"], marked["metadata"]["name"])

    def _mark_deleted(self, pod: Json, grace_seconds: float) -> Json:
        ends = rfc3339(time.time() + grace_seconds)
        metadata = pod["metadata"]
        ends = min(ends, metadata.get("deletionTimestamp", ends))
        mark = {"deletionTimestamp": ends, "deletionGracePeriodSeconds": int(grace_seconds)}
        return self.store.update("pods", {**pod, "metadata": {**metadata, **mark}})

    def tick(self) -> None:
        """Move everything on as far as it goes now."""
        self._scheduler.run()
        for pod in filter(is_active, self.store.all("pods")):
            try:
                self._injector.run(pod)
                self._sync(pod)
            except OSError as error:
                # A full disk, or one pod's impossible path, must not stop the others: it is tried again.
                logger.warning("pod %s cannot go on for now: %s", pod["metadata"]["name"], error)
        self.kubelet.shims.reap()
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDY_SECONDS
            self.events.forget_old()
            self._collect_garbage()

    def _sync(self, pod: Json) -> None:
        metadata = pod["metadata"]
        current = self.store.find("pods", metadata["namespace"], metadata["name"])
        if current is not None and current["metadata"]["uid"] == metadata["uid"]:
            self.kubelet.sync(current)

    def _collect_garbage(self) -> None:
        ended = [pod for pod in self.store.all("pods") if pod["status"]["phase"] in _ENDED]
        for pod in ended[: max(0, len(ended) - _ENDED_PODS_KEPT)]:
            self.kubelet.forget(pod)

    def wake(self) -> None:
        """Look again at once, though no object has changed."""
        self.store.changed.set()
        self.store.changed = asyncio.Event()

    async def run(self) -> None:
        """Move on whenever something changes, and often while pods run; until cancelled."""
        while True:
            changed = self.store.changed
            try:
                self.tick()
            except OSError as error:
                logger.warning("the local cluster cannot go on for now: %s", error)
                await asyncio.sleep(_DISK_RETRY_SECONDS)
                continue
            await asyncio.sleep(_SETTLE_SECONDS)
            await _wait_for(changed, self._seconds_to_next_look())

    def _seconds_to_next_look(self) -> float:
        unsettled = self.kubelet.shims.any() or any(
            is_active(pod) or not pod["spec"].get("nodeName") for pod in self.store.all("pods")
        )
        return _LOOK_AGAIN_SECONDS if unsettled else _IDLE_SECONDS

    async def shut_down(self) -> None:
        """End every pod, as a node does that is shut down in order."""
        self.closing = True
        message = "Pod was terminated in response to imminent node shutdown."
        order = StopOrder(
            at=time.time(),
            grace_seconds=SHUTDOWN_GRACE_SECONDS,
            reason="Terminated",
            message=message,
            disruption="TerminationByKubelet",
        )
        for pod in filter(is_active, self.store.all("pods")):
            self.kubelet.stop(pod, order)
        while any(is_active(pod) for pod in self.store.all("pods")):
            for pod in filter(is_active, self.store.all("pods")):
                self._sync(pod)
            await asyncio.sleep(0.05)
        self.kubelet.shims.reap()


def is_active(pod: Json) -> bool:
    """Whether the kubelet has something to do for the pod: it is bound, and has not ended or is to vanish."""
    bound = bool(pod["spec"].get("nodeName"))
    return bound and (pod["status"]["phase"] not in _ENDED or bool(pod["metadata"].get("deletionTimestamp")))


async def _wait_for(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
