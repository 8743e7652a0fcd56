from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import urllib3
from kubernetes import watch
from kubernetes.client import ApiException

from evergreen.localcluster.fault_client import call
from evergreen.localcluster.server_process import LocalCluster

SLEEP = "import time; print('up'); time.sleep(900)"
LABELS = {"app": "trainer"}


def conditions(pod: Any) -> dict[str, tuple[str, str]]:
    return {item.type: (item.status, item.reason) for item in pod.status.conditions}


def test_evicted_pod_fails_with_its_reason(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.evict("app=trainer")
    pods.python("victim", SLEEP, labels=LABELS)
    pod = pods.phase("victim", "Failed")
    assert pod.status.reason == "Evicted"
    assert "low on resource: memory" in pod.status.message
    assert conditions(pod)["DisruptionTarget"] == ("True", "TerminationByKubelet")
    assert pod.status.container_statuses[0].state.terminated.exit_code in (143, 137)  # it has a second to die in order
    assert "Evicted" in dict(pods.events("victim"))


def test_oom_fault_looks_like_a_real_one(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.oom("app=trainer")
    pods.python("victim", SLEEP, labels=LABELS)
    ended = pods.ended("victim")
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


def test_fault_waits_until_the_pod_has_run_for_a_while(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.oom(after_seconds=3.0)
    pods.python("victim", SLEEP)
    ended = pods.ended("victim")
    assert (ended.finished_at - ended.started_at).total_seconds() >= 2  # both are whole seconds


def test_fault_strikes_the_next_matching_pod_only(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.evict("app=trainer")
    pods.python("bystander", SLEEP, labels={"app": "other"})
    pods.python("victim", SLEEP, labels=LABELS)
    pods.phase("victim", "Failed")
    pods.python("retry", SLEEP, labels=LABELS)
    pods.phase("retry", "Running")
    time.sleep(0.5)
    assert pods.read("retry").status.phase == "Running"
    assert pods.read("bystander").status.phase == "Running"
    (fault,) = cluster.faults.all()
    assert fault.struck == (pods.read("victim").metadata.uid,)


def test_fault_may_strike_every_pod_or_none(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.evict(probability=0.0)
    cluster.faults.oom(probability=1.0, times=None)
    for number in range(3):
        pods.python(f"pod-{number}", SLEEP)
    for number in range(3):
        assert pods.ended(f"pod-{number}").reason == "OOMKilled"
    never, always = cluster.faults.all()
    assert (len(never.struck), len(never.spared), len(always.struck)) == (0, 3, 3)


def test_pod_is_never_scheduled_until_the_fault_is_cleared(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.never_scheduled("app=trainer")
    pods.python("stuck", "print('ran')", labels=LABELS)
    pod = pods.wait("stuck", lambda p: p.status.conditions)
    assert pod.status.phase == "Pending"
    assert pod.status.conditions[0].message == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    assert "FailedScheduling" in dict(pods.events("stuck"))
    cluster.faults.clear()
    pods.phase("stuck", "Succeeded")


def _first_deleted(pods: Any, act: Callable[[], object]) -> Any:
    """The victim as it is when it is first marked as deleted after `act`; it may be gone a second later."""
    revision = pods.api.list_namespaced_pod("default").metadata.resource_version
    act()
    changes = watch.Watch().stream(
        pods.api.list_namespaced_pod, "default", resource_version=revision, timeout_seconds=240
    )
    seen = (change["object"] for change in changes)
    return next(pod for pod in seen if pod.metadata.name == "victim" and pod.metadata.deletion_timestamp)


def test_preempted_pod_vanishes_before_it_starts(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.preempt_before_start("app=trainer")
    pod = _first_deleted(pods, lambda: pods.python("victim", "print('never')", labels=LABELS))
    assert conditions(pod)["DisruptionTarget"] == ("True", "PreemptionByScheduler")
    assert not any(status.state.running for status in pod.status.container_statuses or [])
    pods.gone("victim")
    reasons = [reason for reason, _ in pods.events("victim")]
    assert "Preempted" in reasons
    assert "Started" not in reasons


def test_image_that_cannot_be_pulled_backs_off_until_it_can(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.image_pull_fails(image="python:3.11-slim", times=None, message="manifest unknown")
    pods.python("imageless", "print('ran')")
    pod = pods.wait(
        "imageless",
        lambda p: (
            p.status.container_statuses and p.status.container_statuses[0].state.waiting.reason == "ImagePullBackOff"
        ),
    )
    assert pod.status.phase == "Pending"
    assert "manifest unknown" in pod.status.container_statuses[0].state.waiting.message
    assert {"Failed", "BackOff"} <= dict(pods.events("imageless")).keys()
    pods.create("other-image", ["python", "-c", ""], container={"image": "trainer:2"})
    pods.phase("other-image", "Succeeded")
    cluster.faults.clear()
    pods.phase("imageless", "Succeeded")


def test_deadline_ends_the_wait_for_an_image_and_gives_the_place_back(pods: Any, cluster: LocalCluster) -> None:
    cluster.faults.image_pull_fails("app=trainer")
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    pods.python("imageless", "print('never')", labels=LABELS, container=gpu, activeDeadlineSeconds=1)
    pod = pods.phase("imageless", "Failed")
    assert pod.status.reason == "DeadlineExceeded"
    assert pod.status.container_statuses[0].state.waiting.reason in ("ErrImagePull", "ImagePullBackOff")
    pods.python("next", "", container=gpu)
    pods.phase("next", "Succeeded")


def test_deadline_passes_while_the_server_is_away(local_cluster: LocalCluster, own_pods: Any) -> None:
    local_cluster.faults.image_pull_fails("app=trainer")
    own_pods.python("imageless", "", labels=LABELS, activeDeadlineSeconds=2)
    own_pods.waiting("imageless", "ImagePullBackOff")
    local_cluster.restart()
    assert own_pods.phase("imageless", "Failed").status.reason == "DeadlineExceeded"


def test_deleted_under_the_reader(pods: Any, cluster: LocalCluster) -> None:
    pods.python("victim", SLEEP, labels=LABELS)
    pods.phase("victim", "Running")
    cluster.faults.delete("app=trainer")
    pods.gone("victim")


def test_lost_node_takes_its_pods_with_it_and_comes_back(pods: Any, cluster: LocalCluster) -> None:
    pods.python("victim", SLEEP, labels=LABELS)
    pods.python("neighbour", SLEEP)
    pods.phase("neighbour", "Running")
    pods.phase("victim", "Running")
    pod = _first_deleted(pods, lambda: cluster.faults.node_lost("app=trainer"))
    assert (pod.status.phase, pod.status.reason) == ("Running", "NodeLost")
    assert conditions(pod)["DisruptionTarget"] == ("True", "DeletionByTaintManager")
    with pytest.raises(ApiException, match="connection refused"):
        pods.log("victim")
    (node,) = pods.api.list_node().items
    assert node.status.conditions[0].status == "Unknown"
    pods.gone("victim")
    pods.gone("neighbour")
    assert "NodeNotReady" in dict(pods.events("neighbour"))
    pods.python("afterwards", "")
    pods.phase("afterwards", "Succeeded")


def test_cut_log_breaks_once_in_the_middle_of_a_line_and_the_pod_runs_on(
    pods: Any, cluster: LocalCluster, tmp_path: Path
) -> None:
    cluster.faults.log_cut("app=trainer")
    await_go = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
    program = f"for i in range(19): print('line', i)\n{await_go}print('line 19')"
    pods.create("talker", ["python", "-uc", program, str(tmp_path / "go")], labels=LABELS)
    pods.phase("talker", "Running")
    stream = pods.api.read_namespaced_pod_log("talker", "default", follow=True, _preload_content=False)
    received: list[bytes] = []
    with pytest.raises(urllib3.exceptions.HTTPError):
        received.extend(stream.stream(amt=None))
    (tmp_path / "go").touch()
    assert not received[-1].endswith(b"\n")
    assert b"line 19" not in b"".join(received)
    assert pods.log("talker", follow=True) == [f"line {i}" for i in range(20)]
    assert pods.ended("talker").exit_code == 0


def test_faults_survive_a_restart(local_cluster: LocalCluster, own_pods: Any) -> None:
    local_cluster.faults.evict("app=trainer")
    local_cluster.restart()
    own_pods.python("victim", SLEEP, labels=LABELS)
    assert own_pods.phase("victim", "Failed").status.reason == "Evicted"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "earthquake"},
        {"kind": "evict", "probability": 2},
        {"kind": "evict", "selector": "a=(b"},
        {"kin": "evict"},
    ],
    ids=["kind", "probability", "selector", "key"],
)
def test_fault_that_makes_no_sense_is_refused(cluster: LocalCluster, body: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as refusal:
        call(cluster.kubeconfig, "POST", "/evergreen/faults", body)
    assert refusal.value.code == 422
    refusal.value.close()
    assert cluster.faults.all() == []
