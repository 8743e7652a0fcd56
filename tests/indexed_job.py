"""Runs an indexed Job as its controller does, on a cluster too old to have indexes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any
from uuid import uuid4

from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.client.exceptions import NotFoundException

Manifest = dict[str, Any]
PATIENCE_SECONDS = 600.0


class IndexedJob:
    """The pods of one Job in one namespace: each index has one until it succeeds."""

    def __init__(self, core: CoreV1Api, namespace: str, manifest: Manifest) -> None:
        self.core = core
        self.namespace = namespace
        self.name = manifest["metadata"]["name"]
        self.template = manifest["spec"]["template"]
        self.retries = manifest["spec"]["backoffLimit"]
        self.pods: dict[int, str] = {}
        self.ended: list[tuple[int, int]] = []
        """Index and exit code of the pods that ended badly."""
        for index in range(manifest["spec"]["completions"]):
            self.start(index)

    def start(self, index: int) -> None:
        """A new pod of that index, named, labelled and told of it as the controller would."""
        template = deepcopy(self.template)
        hostname = f"{self.name}-{index}"
        self.pods[index] = f"{hostname}-{uuid4().hex[:5]}"
        labels = template["metadata"]["labels"] | {"job-name": self.name}
        place = {"batch.kubernetes.io/job-completion-index": str(index)}
        for container in template["spec"]["containers"]:
            container["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        metadata = {"name": self.pods[index], "labels": labels, "annotations": place}
        self.core.create_namespaced_pod(
            self.namespace, {"metadata": metadata, "spec": template["spec"] | {"hostname": hostname}}
        )

    def lose(self, index: int) -> None:
        """The pod of that index is gone from one moment to the next, as with its node."""
        self.core.delete_namespaced_pod(self.pods[index], self.namespace, grace_period_seconds=0)

    def run(self, until: Callable[[], bool]) -> None:
        """Starts again what is lost or ended badly, until the condition holds; AssertionError when it never does."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not until():
            assert time.monotonic() < give_up_at, self.report()
            for index, pod in self._read().items():
                if pod is None or pod.status.phase == "Failed":
                    self._replace(index, pod)
            time.sleep(0.2)

    @property
    def succeeded(self) -> bool:
        """Whether every index has."""
        return all(pod is not None and pod.status.phase == "Succeeded" for pod in self._read().values())

    def log(self, index: int) -> str:
        """What the newest pod of that index printed so far; nothing while it has not started."""
        with contextlib.suppress(Exception):
            answer = self.core.read_namespaced_pod_log(self.pods[index], self.namespace, _preload_content=False)
            return str(answer.data.decode())
        return ""

    def report(self) -> str:
        """Phases, statuses and logs, for a person."""
        pods: Mapping[int, V1Pod | None] = self._read()
        said = [f"{i}: {pod and (pod.status.phase, pod.status.container_statuses)}" for i, pod in pods.items()]
        return "\n".join([*said, f"ended: {self.ended}", *(self.log(index)[-4000:] for index in pods)])

    def _replace(self, index: int, pod: V1Pod | None) -> None:
        if pod is not None:
            self.ended.append((index, pod.status.container_statuses[0].state.terminated.exit_code))
            assert len(self.ended) <= self.retries, self.report()
        self.start(index)

    def _read(self) -> dict[int, V1Pod | None]:
        found: dict[int, V1Pod | None] = dict.fromkeys(self.pods)
        for index, name in self.pods.items():
            with contextlib.suppress(NotFoundException):
                found[index] = self.core.read_namespaced_pod(name, self.namespace)
        return found
