"""Makes pods on any cluster and waits for them, through the official client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kubernetes import config
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import NotFoundException

PATIENCE_SECONDS = 240.0  # a busy node may take half a minute to take a dead pod away
IMAGE = "python:3.11-slim"
NOT_HEARD_YET = re.compile("failed to sync (secret|configmap) cache|object .* not registered")


@dataclass(frozen=True, kw_only=True)
class ClusterUnderTest:
    """A cluster, the namespace in it that is the tests' own, and a device that its one node has one of."""

    kind: Literal["local", "real"]
    kubeconfig: Path
    namespace: str
    device: str


class Pods:
    """The pods of one namespace."""

    def __init__(self, api: CoreV1Api, namespace: str = "default") -> None:
        self.api = api
        self.namespace = namespace
        self._uids: dict[str, str] = {}

    def create(self, name: str, command: list[str], **options: Any) -> Any:
        """A new pod with one container `base`; options go into the spec, labels and container where they belong."""
        container = {"name": "base", "image": IMAGE, "command": command, **options.pop("container", {})}
        metadata = {"name": name, "labels": options.pop("labels", {})}
        spec = {"restartPolicy": "Never", "dnsPolicy": "Default", "containers": [container], **options}
        pod = self.api.create_namespaced_pod(self.namespace, {"metadata": metadata, "spec": spec})
        self._uids[name] = pod.metadata.uid
        return pod

    def python(self, name: str, program: str, **options: Any) -> Any:
        """A new pod that runs a Python program, unbuffered."""
        return self.create(name, ["python", "-u", "-c", program], **options)

    def read(self, name: str) -> Any:
        """The pod as it is now."""
        return self.api.read_namespaced_pod(name, self.namespace)

    def delete(self, name: str, **options: Any) -> Any:
        """The pod, asked to go."""
        return self.api.delete_namespaced_pod(name, self.namespace, **options)

    def wait(self, name: str, until: Callable[[Any], bool]) -> Any:
        """The pod, once it is as wanted; AssertionError when that takes too long."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            pod = self.read(name)
            if until(pod):
                return pod
            time.sleep(0.03)
        raise AssertionError(f"{name} is still {pod.status}")

    def phase(self, name: str, *phases: str) -> Any:
        """The pod, once it is in one of the phases."""
        return self.wait(name, lambda pod: pod.status.phase in phases)

    def ended(self, name: str) -> Any:
        """The state of the pod's container, once the pod has ended."""
        return self.phase(name, "Succeeded", "Failed").status.container_statuses[0].state.terminated

    def waiting(self, name: str, reason: str) -> Any:
        """The state of the pod's container, once it waits for that reason."""

        def waits(pod: Any) -> bool:
            states = [status.state.waiting for status in pod.status.container_statuses or []]
            found = states[0] if states else None
            return bool(found and found.reason == reason and not NOT_HEARD_YET.search(found.message or ""))

        return self.wait(name, waits).status.container_statuses[0].state.waiting

    def log(self, name: str, **options: Any) -> list[str]:
        """The log's lines."""
        answer = self.api.read_namespaced_pod_log(name, self.namespace, _preload_content=False, **options)
        return answer.data.decode().splitlines()

    def wait_for_log(self, name: str, line: str) -> None:
        """Wait until the running pod has said that."""
        self.phase(name, "Running", "Succeeded", "Failed")
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while line not in self.log(name):
            assert time.monotonic() < give_up_at, f"{name} never said {line!r}"
            time.sleep(0.05)

    def gone(self, name: str) -> None:
        """Wait until there is no such pod."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                self.read(name)
            except NotFoundException:
                return
            time.sleep(0.03)
        raise AssertionError(f"{name} is still there")

    def events(self, name: str, *, until: str | None = None) -> list[tuple[str, str]]:
        """Reason and message of the pod's events, oldest first; waits for the reason `until`, which may come late."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = [(event.reason, event.message) for event in self.event_objects(name)]
            if until is None or until in dict(found):
                return found
            assert time.monotonic() < give_up_at, f"no event {until} among {found}"
            time.sleep(0.1)

    def event_objects(self, name: str) -> list[Any]:
        """The pod's events, oldest first, without those of a busy kubelet that has not heard of a volume yet."""
        selector = f"involvedObject.name={name},involvedObject.uid={self._uids[name]}"
        told = self.api.list_namespaced_event(self.namespace, field_selector=selector).items
        found = [event for event in told if not NOT_HEARD_YET.search(event.message or "")]
        return sorted(found, key=lambda event: int(event.metadata.resource_version))


def api_of(kubeconfig: Path) -> CoreV1Api:
    """The client for the cluster that the kubeconfig names."""
    return CoreV1Api(config.new_client_from_config(str(kubeconfig)))
