"""A running local cluster for what only it has: its server, its shims, its fault switches."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kubernetes import client, config
from kubernetes.client import CoreV1Api

from evergreen.localcluster.pytest_plugin import local_cluster
from evergreen.localcluster.server_process import LocalCluster
from kube_pods import Pods, api_of

__all__ = ["local_cluster"]

NODES = ("name=local-0,cpu=4,memory=8Gi,nvidia.com/gpu=1,label:pool=gpu",)


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
    api = api_of(shared_cluster.kubeconfig)
    api.delete_collection_namespaced_pod("default", grace_period_seconds=0)
    while api.list_namespaced_pod("default").items:
        time.sleep(0.03)


@pytest.fixture
def api(cluster: LocalCluster) -> CoreV1Api:
    return api_of(cluster.kubeconfig)


@pytest.fixture
def pods(api: CoreV1Api) -> Pods:
    return Pods(api)


@pytest.fixture
def own_pods(local_cluster: LocalCluster) -> Pods:
    """Pods on a cluster of the test's own, which it may kill."""
    return Pods(api_of(local_cluster.kubeconfig))


@pytest.fixture
def raw_client(cluster: LocalCluster) -> client.ApiClient:
    return config.new_client_from_config(str(cluster.kubeconfig))
