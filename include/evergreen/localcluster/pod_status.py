"""A pod's status object, built from what is known of its containers. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evergreen.localcluster.wire import Json, rfc3339

LOCAL_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The container has not started; Kubernetes' reason, and a message where there is one."""

    reason: str
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Running:
    """The container's process lives since `started_at` (RFC 3339)."""

    started_at: str


@dataclass(frozen=True, kw_only=True)
class Terminated:
    """The container has ended; `cause` is set when the pod as a whole was to blame (DeadlineExceeded)."""

    exit_code: int
    reason: str
    started_at: str | None
    finished_at: str
    message: str | None = None
    cause: str | None = None


ContainerState = Waiting | Running | Terminated
States = Mapping[str, ContainerState]
Phase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What ended the pod from outside: status.reason and message, and its disruption condition."""

    reason: str
    message: str
    disruption: str | None = None
    """Reason of the DisruptionTarget condition, which tells eviction from failure."""


DEADLINE_EXCEEDED = Verdict(
    reason="DeadlineExceeded", message="Pod was active on the node longer than the specified deadline"
)


def phase_of(init: Sequence[ContainerState], main: Sequence[ContainerState], *, doomed: bool) -> Phase:
    """The phase that these states add up to; `doomed` pods fail once nothing of them runs."""
    everything = [*init, *main]
    if any(isinstance(state, Running) for state in main):
        return "Running"
    if doomed and not any(isinstance(state, Running) for state in everything):
        return "Failed"
    if any(isinstance(state, Terminated) and state.exit_code for state in init):
        return "Failed"
    ended = [state for state in main if isinstance(state, Terminated)]
    if len(ended) < len(main):
        return "Running" if ended else "Pending"
    return "Failed" if any(state.exit_code or state.cause for state in ended) else "Succeeded"


def pod_status(pod: Json, states: States, verdict: Verdict | None) -> Json:
    """The whole status of a bound pod."""
    init = [states[container["name"]] for container in pod["spec"].get("initContainers") or []]
    main = [states[container["name"]] for container in pod["spec"]["containers"]]
    phase = phase_of(init, main, doomed=verdict is not None)
    old = pod["status"]
    status: Json = {
        "phase": phase,
        "conditions": _conditions(pod, phase, states, verdict),
        "hostIP": LOCAL_ADDRESS,
        "startTime": old.get("startTime") or rfc3339(),
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if any(not isinstance(state, Waiting) for state in states.values()):
        status |= {"podIP": LOCAL_ADDRESS, "podIPs": [{"ip": LOCAL_ADDRESS}]}
    if reason := _pod_reason(phase, [*init, *main], verdict):
        status |= reason
    never_started = all(isinstance(state, Waiting) for state in states.values())
    if never_started and verdict is not None and verdict.disruption is not None:
        return status  # as the kubelet does: a pod that was turned away before its containers has no statuses
    if pod["spec"].get("initContainers"):
        status["initContainerStatuses"] = _statuses(pod, pod["spec"]["initContainers"], states, init=True)
    status["containerStatuses"] = _statuses(pod, pod["spec"]["containers"], states)
    return status


def _pod_reason(phase: Phase, states: Sequence[ContainerState], verdict: Verdict | None) -> Json | None:
    if any(isinstance(state, Terminated) and state.cause == DEADLINE_EXCEEDED.reason for state in states):
        verdict = verdict or DEADLINE_EXCEEDED
    if phase != "Failed" or verdict is None:
        return None
    return {"reason": verdict.reason, "message": verdict.message}


def _statuses(pod: Json, containers: Sequence[Json], states: States, *, init: bool = False) -> list[Json]:
    uid = pod["metadata"]["uid"]
    return [_container_status(uid, container, states[container["name"]], init=init) for container in containers]


def _container_status(uid: str, container: Json, state: ContainerState, *, init: bool) -> Json:
    running = isinstance(state, Running)
    succeeded = isinstance(state, Terminated) and not state.exit_code
    status = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": succeeded if init else running,
        "started": running,
        "restartCount": 0,
        "lastState": {},
    }
    if isinstance(state, Waiting):
        return {**status, "state": state_object(state, None)}
    identity = f"local://{uid}/{container['name']}"
    known = {"imageID": f"local://{container['image']}", "containerID": identity}
    return {**status, **known, "state": state_object(state, identity)}


def state_object(state: ContainerState, identity: str | None) -> Json:
    """The `state` field of a container status."""
    match state:
        case Waiting():
            return {"waiting": _without_none({"reason": state.reason, "message": state.message})}
        case Running():
            return {"running": {"startedAt": state.started_at}}
        case Terminated():
            ended = {
                "exitCode": state.exit_code,
                "reason": state.reason,
                "startedAt": state.started_at,
                "finishedAt": state.finished_at,
                "message": state.message,
                "containerID": identity,
            }
            return {"terminated": _without_none(ended)}


def _without_none(item: Json) -> Json:
    return {key: value for key, value in item.items() if value is not None}


def condition(
    old: Sequence[Json], type_: str, status: bool, reason: str | None = None, message: str | None = None
) -> Json:
    """One condition; its transition time is kept while its status stays the same."""
    text = "True" if status else "False"
    before = next((item for item in old if item["type"] == type_ and item["status"] == text), None)
    since = before["lastTransitionTime"] if before else rfc3339()
    extra = _without_none({"reason": reason, "message": message})
    return {"type": type_, "status": text, "lastProbeTime": None, "lastTransitionTime": since, **extra}


def _conditions(pod: Json, phase: Phase, states: States, verdict: Verdict | None) -> list[Json]:
    """All conditions, in the order the kubelet writes them."""
    old = pod["status"].get("conditions") or []
    initialized = _initialized(pod, phase, states)
    unready = [c["name"] for c in pod["spec"]["containers"] if not isinstance(states[c["name"]], Running)]
    why, message = _why_unready(phase, unready)
    conditions = [
        condition(old, "Initialized", *initialized),
        condition(old, "Ready", not unready, why, message),
        condition(old, "ContainersReady", not unready, why, message),
        condition(old, "PodScheduled", True),
    ]
    if verdict is not None and verdict.disruption is not None:
        target = condition(old, "DisruptionTarget", True, verdict.disruption, verdict.message)
        return [*conditions, target]
    # Whoever is deleting the pod has said so; that stays.
    return [*conditions, *(item for item in old if item["type"] == "DisruptionTarget")]


def _initialized(pod: Json, phase: Phase, states: States) -> tuple[bool, str | None, str | None]:
    init = {c["name"]: states[c["name"]] for c in pod["spec"].get("initContainers") or []}
    waited_for = [n for n, state in init.items() if not isinstance(state, Terminated) or state.exit_code]
    if waited_for:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waited_for)}]"
    return True, "PodCompleted" if phase == "Succeeded" else None, None


def _why_unready(phase: Phase, unready: Sequence[str]) -> tuple[str | None, str | None]:
    if not unready:
        return None, None
    ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    if ended is not None:
        return ended, None
    return "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
