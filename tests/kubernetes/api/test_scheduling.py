"""Pods go where they fit; one that does not waits and says why."""

from __future__ import annotations

from kube_pods import ClusterUnderTest, Pods


def test_pod_that_does_not_fit_waits_and_runs_once_there_is_room(pods: Pods, cluster: ClusterUnderTest) -> None:
    one_device = {"resources": {"limits": {cluster.device: "1"}}}
    pods.python("holder", "import time; time.sleep(900)", container=one_device)
    pods.phase("holder", "Running")
    pods.python("waiter", "print('at last')", container=one_device)
    pod = pods.wait("waiter", lambda p: p.status.conditions)
    (condition,) = pod.status.conditions
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
    assert condition.message == f"0/1 nodes are available: 1 Insufficient {cluster.device}."
    assert pods.events("waiter", until="FailedScheduling")[0] == ("FailedScheduling", condition.message)
    assert pods.read("waiter").status.container_statuses is None
    pods.delete("holder", grace_period_seconds=0)
    pods.phase("waiter", "Succeeded")


def test_small_pod_overtakes_one_that_does_not_fit(pods: Pods) -> None:
    pods.python("huge", "", container={"resources": {"requests": {"memory": "9000Gi", "cpu": "900"}}})
    pods.python("small", "", container={"resources": {"requests": {"memory": "1Mi"}}})
    pods.phase("small", "Succeeded")
    message = pods.read("huge").status.conditions[0].message
    assert message == "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."


def test_finished_pod_gives_its_device_back(pods: Pods, cluster: ClusterUnderTest) -> None:
    for number in range(2):
        pods.python(f"turn-{number}", "", container={"resources": {"limits": {cluster.device: "1"}}})
    for number in range(2):
        pods.phase(f"turn-{number}", "Succeeded")


def test_pod_whose_labels_no_node_has_waits(pods: Pods) -> None:
    pods.python("nowhere", "", nodeSelector={"pool": "tpu"})
    message = pods.wait("nowhere", lambda p: p.status.conditions).status.conditions[0].message
    # Kubernetes before 1.22 ends the sentence at "affinity".
    assert message.startswith("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity")


def test_node_is_listed_with_what_it_offers(pods: Pods, cluster: ClusterUnderTest) -> None:
    (node,) = pods.api.list_node().items
    assert node.status.allocatable[cluster.device] == "1"
    assert {"cpu", "memory", "pods", "ephemeral-storage"} <= node.status.allocatable.keys()
    assert node.metadata.labels["kubernetes.io/hostname"] == node.metadata.name
    assert {"kubernetes.io/os", "kubernetes.io/arch"} <= node.metadata.labels.keys()
    ready = next(item for item in node.status.conditions if item.type == "Ready")
    assert (ready.status, ready.reason) == ("True", "KubeletReady")
