"""The doctor names the cause from a pod's remains, and each cause has the action that fits."""

from __future__ import annotations

from typing import Any

import pytest

from evergreen.orchestration.pod_diagnosis import Action, Cause
from evergreen.orchestration.pod_doctor import diagnose
from evergreen.orchestration.pod_facts import Facts

GPU = {"resources": {"limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}}}


def _pod(*, status: dict[str, Any] | None = None, node: str | None = "n1", **terminated: Any) -> dict[str, Any]:
    states = [{"name": "base", "state": {"terminated": terminated}}] if terminated else []
    spec = {"containers": [{"name": "base", "image": "trainer:1", **GPU}], "activeDeadlineSeconds": 60}
    return {
        "metadata": {"name": "p"},
        "spec": spec | ({"nodeName": node} if node else {}),
        "status": {"containerStatuses": states, **(status or {})},
    }


def _event(reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": kind}


def _refusal(status: int, message: str) -> str:
    body = '{"kind":"Status","message":"' + message.replace('"', '\\"') + '","code":' + str(status) + "}"
    return f"ApiException: ({status})\nReason: No\nHTTP response body: {body}\n"


def _disrupted(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"}]}


NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
QUOTA = 'pods "p" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4'
TIMEOUT = "PodLaunchTimeoutException: Pod took too long to be scheduled on the cluster, giving up. More than 600s."
LOST_LOG = _refusal(500, "Get https://10.0.0.7:10250/containerLogs/default/p/base: connect: connection refused")
CASES = {
    "evicted for memory": (
        Facts(name="p", pod=_pod(status={"reason": "Evicted", "message": "The node was low on resource: memory. "})),
        Cause.EVICTED,
        "Pod p was evicted from node n1: The node was low on resource: memory.",
    ),
    "evicted for its own disk": (
        Facts(name="p", pod=_pod(status={"reason": "Evicted", "message": 'Usage of EmptyDir volume "s" exceeds 1Gi'})),
        Cause.STORAGE,
        "filled the disk space it may use",
    ),
    "drained": (
        Facts(name="p", pod=_pod(status=_disrupted("EvictionByEvictionAPI"))),
        Cause.EVICTED,
        "its node is being drained.",
    ),
    "preempted": (
        Facts(name="p", pod=_pod(status=_disrupted("PreemptionByScheduler"))),
        Cause.PREEMPTED,
        "a pod of higher priority needed its place",
    ),
    "node lost": (
        Facts(name="p", pod=_pod(status=_disrupted("DeletionByTaintManager"))),
        Cause.NODE_LOST,
        "Pod p was lost with node n1",
    ),
    "node does not give its logs": (Facts(name="p", pod=_pod(), error=LOST_LOG), Cause.NODE_LOST, "with node n1"),
    "node was shut down": (
        Facts(name="p", pod=_pod(status={"reason": "Terminated", "message": "Pod was terminated"}, exitCode=75)),
        Cause.NODE_LOST,
        "does not answer or was shut down",
    ),
    "deleted": (
        Facts(name="p", pod=_pod(), error=_refusal(404, 'pods "p" not found')),
        Cause.DELETED,
        "deleted from node n1 by somebody else",
    ),
    "deleted while it stopped in order": (
        Facts(
            name="p",
            pod={
                **_pod(exitCode=75, message="exit 75 (temporary: retry): asked"),
                "metadata": {"deletionTimestamp": "t"},
            },
        ),
        Cause.DELETED,
        "by somebody else",
    ),
    "killed for memory": (
        Facts(name="p", pod=_pod(exitCode=137, reason="OOMKilled")),
        Cause.OUT_OF_MEMORY,
        "needed more memory than its limit of 16Gi",
    ),
    "device out of memory": (
        Facts(name="p", pod=_pod(exitCode=137, reason="Error", message="exit 137 (out of memory): CUDA out of memory")),
        Cause.OUT_OF_MEMORY,
        "CUDA out of memory",
    ),
    "killed by a signal": (
        Facts(name="p", pod=_pod(exitCode=137, reason="Error")),
        Cause.EXIT,
        "was killed (SIGKILL), not by its memory limit.",
    ),
    "deadline": (
        Facts(name="p", pod=_pod(status={"reason": "DeadlineExceeded"}, exitCode=143)),
        Cause.DEADLINE,
        "longer than its deadline of 60 s",
    ),
    "bad configuration": (
        Facts(name="p", pod=_pod(exitCode=64, message="log\nexit 64 (bad configuration): seed: found x, wanted y.")),
        Cause.CONFIGURATION,
        "Pod p was configured wrongly: seed: found x, wanted y.",
    ),
    "bad data": (Facts(name="p", pod=_pod(exitCode=65)), Cause.DATA, "met data it cannot use."),
    "temporary": (Facts(name="p", pod=_pod(exitCode=75)), Cause.TEMPORARY, "a trouble that may pass."),
    "crash": (Facts(name="p", pod=_pod(exitCode=1, message="KeyError: 'x'")), Cause.EXIT, "code 1: KeyError: 'x'."),
    "image absent": (
        Facts(name="p", pod=_pod(), events=[_event("Failed", 'Failed to pull image "trainer:1": not found')]),
        Cause.IMAGE,
        "the image trainer:1 cannot be pulled",
    ),
    "registry overloaded": (
        Facts(name="p", pod=_pod(), events=[_event("Failed", 'Failed to pull image "trainer:1": 503 Unavailable')]),
        Cause.REGISTRY,
        "the image trainer:1 cannot be pulled",
    ),
    "registry away": (
        Facts(name="p", pod=_pod(), events=[_event("Failed", "Failed to pull image: dial tcp: connection refused")]),
        Cause.REGISTRY,
        "cannot be pulled. Failed to pull image: dial tcp: connection refused.",
    ),
    "secret absent": (
        Facts(name="p", pod=_pod(), events=[_event("Failed", 'Error: secret "db" not found')]),
        Cause.CONTAINER,
        'secret "db" not found',
    ),
    "nobody offers it": (
        Facts(name="p", pod=_pod(node=None), events=[_event("FailedScheduling", NO_GPU)], nodes=[{}], error=TIMEOUT),
        Cause.NOT_OFFERED,
        "Pod p was never scheduled: no node offers nvidia.com/gpu (asked for 1; 1 node looked at).",
    ),
    "no room now": (
        Facts(
            name="p",
            pod=_pod(node=None),
            events=[_event("FailedScheduling", NO_GPU)],
            nodes=[{"status": {"allocatable": {"nvidia.com/gpu": "1"}}}],
        ),
        Cause.NO_ROOM,
        NO_GPU,
    ),
    "no room, nodes unseen": (
        Facts(name="p", pod=_pod(node=None), events=[_event("FailedScheduling", NO_GPU)]),
        Cause.NO_ROOM,
        NO_GPU,
    ),
    "volume does not come": (
        Facts(
            name="p",
            pod=_pod(),
            events=[_event("FailedMount", "no such disk")],
            error="PodLaunchTimeoutException: Pod took too long to start. More than 120s.",
        ),
        Cause.NOT_STARTED,
        "did not start within 120 s: no such disk.",
    ),
    "quota": (Facts(error=_refusal(403, QUOTA)), Cause.QUOTA, "exceeded quota: gpus"),
    "forbidden": (
        Facts(error=_refusal(403, 'pods is forbidden: User "u" cannot create')),
        Cause.FORBIDDEN,
        'User "u" cannot create',
    ),
    "expired": (Facts(error=_refusal(401, "Unauthorized")), Cause.UNAUTHORIZED, "expired or wrong"),
    "expired while a pod runs": (Facts(name="p", error=_refusal(401, "No")), Cause.UNREACHABLE, "expired or wrong"),
    "namespace absent": (Facts(error=_refusal(404, 'namespaces "x" not found')), Cause.REFUSED, 'namespaces "x"'),
    "invalid": (Facts(error=_refusal(422, "Pod is invalid: memory")), Cause.REFUSED, "Pod is invalid: memory"),
    "policy": (
        Facts(error=_refusal(403, 'pods "p" is forbidden: no PriorityClass with name high was found')),
        Cause.REFUSED,
        "no PriorityClass with name high",
    ),
    "untrusted": (
        Facts(error="MaxRetryError: HTTPSConnectionPool(host='h', port=1): [SSL: CERTIFICATE_VERIFY_FAILED]"),
        Cause.KUBECONFIG,
        "a certificate that the kubeconfig does not trust",
    ),
    "garbled kubeconfig": (Facts(error="ScannerError: mapping values"), Cause.KUBECONFIG, "mapping values."),
    "deferred for too long": (
        Facts(name="p", pod=_pod(), error="AirflowException: Pod p reached the task's execution_timeout deadline."),
        Cause.DEADLINE,
        "longer than its deadline",
    ),
    "no kubeconfig": (
        Facts(error="ConfigException: Invalid kube-config file"),
        Cause.KUBECONFIG,
        "Invalid kube-config",
    ),
    "closed port": (
        Facts(error="MaxRetryError: HTTPSConnectionPool(host='10.0.0.1', port=6443): Max retries exceeded"),
        Cause.UNREACHABLE,
        "The Kubernetes API at 10.0.0.1:6443 does not answer.",
    ),
    "nothing is known": (Facts(name="p", error="ValueError: odd"), Cause.UNKNOWN, "ValueError: odd."),
}


@pytest.mark.parametrize("name", CASES)
def test_cause_is_named_from_what_is_left_of_the_pod(name: str) -> None:
    facts, cause, words = CASES[name]
    diagnosis = diagnose(facts)
    assert diagnosis.cause is cause, diagnosis
    assert words in diagnosis.sentence
    assert "\n" not in str(diagnosis)
    assert diagnosis.remedy.endswith(".")


@pytest.mark.parametrize(
    ("action", "causes"),
    [
        (Action.RESUME, {Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST, Cause.DELETED}),
        (Action.HALVE, {Cause.OUT_OF_MEMORY}),
        (Action.RETRY, {Cause.QUOTA, Cause.TEMPORARY, Cause.EXIT, Cause.UNKNOWN, Cause.UNREACHABLE, Cause.NO_ROOM}),
        (Action.FAIL, {Cause.CONFIGURATION, Cause.DATA, Cause.IMAGE, Cause.FORBIDDEN, Cause.NOT_OFFERED}),
    ],
)
def test_cause_decides_the_action(action: Action, causes: set[Cause]) -> None:
    seen = {diagnose(facts).cause: diagnose(facts).action for facts, _, _ in CASES.values()}
    assert {cause for cause, chosen in seen.items() if chosen is action} >= causes


def test_number_in_the_name_of_an_image_tells_nothing_of_its_registry() -> None:
    event = _event("Failed", 'Failed to pull image "trainer:503": not found')
    pod = _pod()
    pod["spec"]["containers"][0]["image"] = "trainer:503"
    assert diagnose(Facts(name="p", pod=pod, events=[event])).cause is Cause.IMAGE


def test_pod_that_recovered_from_a_slow_image_is_judged_by_its_end() -> None:
    events = [_event("Failed", "Failed to pull image: timeout"), _event("Started", "Started container", "Normal")]
    facts = Facts(name="p", pod=_pod(exitCode=64), events=events)
    assert diagnose(facts).cause is Cause.CONFIGURATION


def test_what_befell_a_pod_that_was_being_deleted_is_no_cause() -> None:
    events = [_event("FailedScheduling", NO_GPU), _event("FailedScheduling", "skip schedule deleting pod: default/p")]
    facts = Facts(name="p", pod=_pod(node=None), events=events, nodes=[{}])
    assert diagnose(facts).cause is Cause.NOT_OFFERED
