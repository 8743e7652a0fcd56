"""A running cluster for the room's tests, and the real Kubernetes client to talk to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import NotFoundException

from evergreen.localcluster.pytest_plugin import local_cluster
from evergreen.localcluster.server_process import LocalCluster

__all__ = ["local_cluster"]

NODES = ("name=local-0,cpu=4,memory=8Gi,nvidia.com/gpu=1,label:pool=gpu",)
PATIENCE_SECONDS = 60.0


class Pods:
    """Makes pods and waits for them, through the official client."""

    def __init__(self, api: CoreV1Api) -> None:
        self.api = api
        self._uids: dict[str, str] = {}

    def create(self, name: str, command: list[str], **options: Any) -> Any:
        """A new pod with one container `base`; options go into the spec, labels and container where they belong."""
        container = {"name": "base", "image": "trainer:1", "command": command, **options.pop("container", {})}
        metadata = {"name": name, "labels": options.pop("labels", {})}
        spec = {"restartPolicy": "Never", "containers": [container], **options}
        pod = self.api.create_namespaced_pod("default", {"metadata": metadata, "spec": spec})
        self._uids[name] = pod.metadata.uid
        return pod

    def python(self, name: str, program: str, **options: Any) -> Any:
        """A new pod that runs a Python program, unbuffered."""
        return self.create(name, ["python", "-u", "-c", program], **options)

    def read(self, name: str) -> Any:
        """The pod as it is now."""
        return self.api.read_namespaced_pod(name, "default")

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

    def log(self, name: str, **options: Any) -> list[str]:
        """The log's lines."""
        answer = self.api.read_namespaced_pod_log(name, "default", _preload_content=False, **options)
        return answer.data.decode().splitlines()

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

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of the pod's events, oldest first."""
        selector = f"involvedObject.name={name},involvedObject.uid={self._uids[name]}"
        found = self.api.list_namespaced_event("default", field_selector=selector)
        return [(event.reason, event.message) for event in found.items]


def api_of(cluster: LocalCluster) -> CoreV1Api:
    return CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    running = LocalCluster(tmp_path_factory.mktemp("shared_cluster"), nodes=NODES)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """A cluster with one GPU node, emptied after the test."""
    yield shared_cluster
    shared_cluster.faults.clear()
    api = api_of(shared_cluster)
    api.delete_collection_namespaced_pod("default", grace_period_seconds=0)
    while api.list_namespaced_pod("default").items:
        time.sleep(0.03)


@pytest.fixture
def api(cluster: LocalCluster) -> CoreV1Api:
    return api_of(cluster)


@pytest.fixture
def pods(api: CoreV1Api) -> Pods:
    return Pods(api)


@pytest.fixture
def own_pods(local_cluster: LocalCluster) -> Pods:
    """Pods on a cluster of the test's own, which it may kill."""
    return Pods(api_of(local_cluster))


@pytest.fixture
def raw_client(cluster: LocalCluster) -> client.ApiClient:
    return config.new_client_from_config(str(cluster.kubeconfig))
