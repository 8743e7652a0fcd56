"""What a serving pod's status says of it: whether it is to be asked, and what holds it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HTTP_PORT = "http"
IMAGE = "Push that image, or correct `images` in the overlay's kustomization."
REMEDIES = {
    "ErrImagePull": IMAGE,
    "ImagePullBackOff": IMAGE,
    "InvalidImageName": IMAGE,
    "CreateContainerConfigError": "Create the Secret or ConfigMap it names, in that namespace.",
    "CrashLoopBackOff": "See why with `kubectl -n {namespace} logs {name} --previous`.",
    "Unschedulable": "Add or free a node that has room for it.",
    "NodeLost": "Mend or delete its node (`kubectl get nodes`); Kubernetes replaces the pod after five minutes.",
}
ELSE = "See `kubectl -n {namespace} describe pod {name}`."


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One pod of the serving Deployment that is not on its way out."""

    name: str
    namespace: str
    uid: str
    port: int
    """Where it listens: its container port called `http`."""
    started: bool
    """Whether it ever ran. One that has not takes no requests, and loads what is published when it starts."""
    lost: bool
    """Whether its node no longer reports. Until it does no request is sent there, and nobody can ask it."""
    trouble: str | None
    """What holds it up, in Kubernetes' words, its reason first."""

    @property
    def reachable(self) -> bool:
        """Whether it may take requests, and so has to be asked."""
        return self.started and not self.lost

    @property
    def remedy(self) -> str:
        """What to do about its trouble."""
        reason = (self.trouble or "").split(":")[0]
        return REMEDIES.get(reason, ELSE).format(namespace=self.namespace, name=self.name)


def replicas_of(pods: list[Any]) -> list[Replica]:
    """The pods that serve or are about to, by name; finished and terminating ones are left out."""
    kept = (pod for pod in pods if not pod.metadata.deletion_timestamp)
    return sorted(
        (_replica(pod) for pod in kept if pod.status.phase not in ("Succeeded", "Failed")),
        key=lambda replica: replica.name,
    )


def _replica(pod: Any) -> Replica:
    return Replica(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        uid=pod.metadata.uid,
        port=_port(pod),
        started=pod.status.phase != "Pending",
        lost=_is_lost(pod),
        trouble=next(_troubles(pod), None),
    )


def _port(pod: Any) -> int:
    ports = [port for container in pod.spec.containers for port in container.ports or ()]
    return next((int(port.container_port) for port in ports if port.name == HTTP_PORT), 8000)


def _is_lost(pod: Any) -> bool:
    """Whether the node controller took readiness from a pod that its kubelet last called ready.

    A kubelet that does so gives a reason (`ContainersNotReady`, say, while it starts); the controller, which does it
    40 to 50 seconds after a node's last word, gives none and leaves the containers as they were.
    See `MarkPodsNotReady` in kubernetes/pkg/controller/util/node/controller_utils.go.
    """
    found = {condition.type: condition for condition in pod.status.conditions or ()}
    ready, containers = found.get("Ready"), found.get("ContainersReady")
    if ready is None or containers is None:
        return False
    return bool(ready.status == "False" and not ready.reason and containers.status == "True")


def _troubles(pod: Any) -> Iterator[str]:
    if _is_lost(pod):
        yield f"NodeLost: node {pod.spec.node_name} no longer reports"
    for status in pod.status.container_statuses or ():
        waiting = status.state.waiting
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{waiting.reason}: {_last_end(status) or waiting.message or 'no message'}"
        elif status.state.terminated or (_last_end(status) and not status.ready):
            yield f"Restarting: {_end(status.state.terminated) or _last_end(status)}"
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"{condition.reason}: {condition.message}"


def _last_end(status: Any) -> str | None:
    return _end(status.last_state.terminated) if status.last_state else None


def _end(terminated: Any) -> str | None:
    if terminated is None:
        return None
    lines = (terminated.message or "").strip().splitlines()
    said = f": {lines[-1][:300]}" if lines else ""
    return f"its container ended with {terminated.reason}, exit code {terminated.exit_code}{said}"
