from __future__ import annotations

from typing import Any

import pytest

from evergreen.errors import ConfigurationError
from evergreen.localcluster.nodes import parse_node

GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


def test_pod_that_does_not_fit_waits_and_runs_once_there_is_room(pods: Any) -> None:
    pods.python("holder", "import time; time.sleep(30)", container=GPU)
    pods.phase("holder", "Running")
    pods.python("waiter", "print('at last')", container=GPU)
    pod = pods.wait("waiter", lambda p: p.status.conditions)
    condition = pod.status.conditions[0]
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
    assert condition.message == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    assert pods.events("waiter") == [("FailedScheduling", condition.message)]
    assert pods.read("waiter").status.container_statuses is None

    pods.api.delete_namespaced_pod("holder", "default", grace_period_seconds=0)
    assert pods.phase("waiter", "Succeeded").spec.node_name == "local-0"


def test_small_pod_overtakes_one_that_does_not_fit(pods: Any) -> None:
    pods.python("huge", "", container={"resources": {"requests": {"memory": "900Gi", "cpu": "64"}}})
    pods.python("small", "", container={"resources": {"requests": {"memory": "1Gi"}}})
    pods.phase("small", "Succeeded")
    message = pods.read("huge").status.conditions[0].message
    assert message == "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."


def test_finished_pod_gives_its_place_back(pods: Any) -> None:
    for number in range(3):
        pods.python(f"turn-{number}", "", container=GPU)
    for number in range(3):
        pods.phase(f"turn-{number}", "Succeeded")


def test_node_selector_is_honoured(pods: Any) -> None:
    pods.python("here", "", nodeSelector={"pool": "gpu"})
    pods.python("nowhere", "", nodeSelector={"pool": "tpu"})
    pods.phase("here", "Succeeded")
    message = pods.wait("nowhere", lambda p: p.status.conditions).status.conditions[0].message
    assert message == "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."


def test_node_is_listed_with_what_it_offers(api: Any) -> None:
    (node,) = api.list_node().items
    assert node.metadata.name == "local-0"
    assert node.status.allocatable["nvidia.com/gpu"] == "1"
    assert node.status.allocatable["cpu"] == "4"
    assert node.status.allocatable["memory"] == str(8 << 30)
    assert api.read_node("local-0").metadata.labels["pool"] == "gpu"


@pytest.mark.parametrize("text", ["cpu=2", "name=a,cpu=two", "name=a,memory=1GiB"])
def test_node_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--node"):
        parse_node(text)
