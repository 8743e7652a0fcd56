"""One cluster after the other for every test of this room: the local one, and a real one where there is one.

These tests speak the Kubernetes API and nothing else. Where the two differ, the local cluster is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kubernetes.client import CoreV1Api

from evergreen.localcluster.server_process import LocalCluster
from kube_pods import ClusterUnderTest, Pods, api_of
from namespaces import namespace_for

DEVICE = "evergreen.test/device"


@pytest.fixture(scope="session", params=["local", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest) -> ClusterUnderTest:
    """A cluster with one node that has one device, and a namespace of the tests' own."""
    found: ClusterUnderTest = request.getfixturevalue(f"{request.param}_cluster_under_test")
    return found


@pytest.fixture(scope="session")
def local_cluster_under_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """The local cluster."""
    node = f"name=local-0,cpu=4,memory=8Gi,{DEVICE}=1,label:pool=gpu"
    running = LocalCluster(tmp_path_factory.mktemp("cluster"), nodes=[node])
    running.start()
    api_of(running.kubeconfig).create_namespace({"metadata": {"name": "evergreen-test"}})
    yield ClusterUnderTest(kind="local", kubeconfig=running.kubeconfig, namespace="evergreen-test", device=DEVICE)
    running.stop()


@pytest.fixture(scope="session")
def real_cluster_under_test(kubeconfig: object) -> Iterator[ClusterUnderTest]:
    """A real cluster; its namespace, and the device its node is given, are removed afterwards."""
    api = api_of(kubeconfig)
    with namespace_for(api, "evergreen-test") as namespace:
        device = f"{DEVICE}-{namespace}"
        _offer_device(api, device, "1")
        yield ClusterUnderTest(kind="real", kubeconfig=kubeconfig, namespace=namespace, device=device)
        _offer_device(api, device, None)


def _offer_device(api: CoreV1Api, device: str, amount: str | None) -> None:
    node = api.list_node().items[0].metadata.name
    offered = {"capacity": {device: amount}, "allocatable": {device: amount}}
    api.patch_node_status(node, {"status": offered})


@pytest.fixture
def pods(cluster: ClusterUnderTest) -> Iterator[Pods]:
    """The namespace's pods, none at first, and none afterwards."""
    api = api_of(cluster.kubeconfig)
    yield Pods(api, cluster.namespace)
    api.delete_collection_namespaced_pod(cluster.namespace, grace_period_seconds=0)
    while api.list_namespaced_pod(cluster.namespace).items:
        time.sleep(0.03)


@pytest.fixture
def api(pods: Pods) -> CoreV1Api:
    """The official client."""
    return pods.api


@pytest.fixture
def namespace(cluster: ClusterUnderTest) -> str:
    """The tests' own namespace."""
    return cluster.namespace
