"""Runs the pods that have a node, and keeps their status true.

Everything is decided anew on every look, from the stored object and from what is on disk: nothing has to be
remembered, so a restarted server goes on where the last one stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from evergreen.localcluster.api_failure import ApiFailure
from evergreen.localcluster.container_environment import (
    ConfigMissing,
    Surroundings,
    VolumeMissing,
    command_line,
    container_environment,
    make_volumes,
    working_directory,
)
from evergreen.localcluster.container_handle import CREATING, ContainerHandle, Launch, Shims
from evergreen.localcluster.events import EventRecorder
from evergreen.localcluster.faults import FaultBook, FaultKind
from evergreen.localcluster.image_names import absent_image, image_name_problem
from evergreen.localcluster.pod_directory import PodDirectory, StopOrder
from evergreen.localcluster.pod_status import (
    DEADLINE_EXCEEDED,
    ContainerState,
    Running,
    Terminated,
    Waiting,
    pod_status,
)
from evergreen.localcluster.quantities import memory_limit_bytes
from evergreen.localcluster.store import Store
from evergreen.localcluster.termination_message import FILE_NAME, termination_message
from evergreen.localcluster.wire import Json, epoch_seconds, rfc3339

_TERMINAL = ("Succeeded", "Failed")
_OVERDUE_SECONDS = 5.0
"""How long after its grace a container may take to end before it is destroyed from outside."""
_INITIALIZING = Waiting(reason="PodInitializing")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the kubelet works with."""

    store: Store
    events: EventRecorder
    faults: FaultBook
    pods: Path
    """Directory of the pods' directories."""
    surroundings: Surroundings


class Kubelet:
    """The one kubelet of all nodes."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._events = parts.events
        self._faults = parts.faults
        self._pods = parts.pods
        self._surroundings = parts.surroundings
        self.shims = Shims()

    def directory(self, pod: Json) -> PodDirectory:
        """Where the pod keeps what it has on disk."""
        return PodDirectory(self._pods, pod["metadata"]["uid"])

    def handle(self, pod: Json, container: str) -> ContainerHandle:
        """The hold on one of the pod's containers."""
        return ContainerHandle(self.directory(pod).container(container), self.shims)

    def containers(self, pod: Json) -> list[Json]:
        """Init containers first, then the others."""
        return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]

    def sync(self, pod: Json) -> None:
        """Bring one bound pod a step further, and write down how it is."""
        order = self.directory(pod).stop_order()
        if order is None and pod["metadata"].get("deletionTimestamp"):
            # A server died between marking the pod and ordering its end.
            grace = float(pod["metadata"]["deletionGracePeriodSeconds"])
            self.stop(pod, StopOrder(at=time.time(), grace_seconds=grace))
            return
        if order is not None:
            self._carry_out(pod, order)
        if order is not None and order.frozen:
            self._remove_if_due(pod, order)
            return
        if pod["status"]["phase"] not in _TERMINAL:
            states = self._states(pod, stopping=order is not None)
            if order is None and _waits_past_deadline(pod, states):
                order = self.stop(pod, _deadline_order(pod))
            pod = self._report(pod, states, order)
        if order is not None:
            self._remove_if_due(pod, order)

    def _states(self, pod: Json, *, stopping: bool) -> dict[str, ContainerState]:
        """How each container is doing, after those whose turn it is were started."""
        states: dict[str, ContainerState] = {}
        for container in pod["spec"].get("initContainers") or []:
            earlier = list(states.values())
            may_start = not stopping and all(_succeeded(state) for state in earlier)
            states[container["name"]] = self._advance(pod, container, may_start=may_start)
        initialized = all(_succeeded(state) for state in states.values())
        for container in pod["spec"]["containers"]:
            may_start = initialized and not stopping
            states[container["name"]] = self._advance(pod, container, may_start=may_start)
        return states

    def _advance(self, pod: Json, container: Json, *, may_start: bool) -> ContainerState:
        handle = self.handle(pod, container["name"])
        state = handle.observe()
        if handle.launched:
            return self._explained(pod, container, state)
        if not may_start:
            return _INITIALIZING if pod["spec"].get("initContainers") else CREATING
        return self._start(pod, container, handle)

    def _start(self, pod: Json, container: Json, handle: ContainerHandle) -> ContainerState:
        image, name = container["image"], container["name"]
        if (fault := self._faults.hold(FaultKind.IMAGE_PULL_FAILS, pod)) is not None:
            return self._image_problem(pod, container, fault.message)
        if (problem := image_name_problem(image)) is not None:
            self._warn_once(pod, "InspectFailed", problem, name)
            self._warn_once(pod, "Failed", "Error: InvalidImageName", name)
            return Waiting(reason="InvalidImageName", message=problem)
        present = f'Container image "{image}" already present on machine'
        try:
            launch = self._launch(pod, container)
        except VolumeMissing as missing:
            self._warn_once(pod, "FailedMount", str(missing), None)
            return CREATING
        except ConfigMissing as missing:
            if not self._events.told(pod, "Pulled", present):
                self._events.normal(pod, "Pulled", present, container=name)
            self._warn_once(pod, "Failed", f"Error: {missing}", name)
            return Waiting(reason="CreateContainerConfigError", message=str(missing))
        self._events.normal(pod, "Pulled", present, container=name)
        handle.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (handle.directory / FILE_NAME).touch(mode=0o600)
        handle.launch(launch)
        return CREATING

    def _launch(self, pod: Json, container: Json) -> Launch:
        directory = self.directory(pod)
        make_volumes(pod, directory, self._store)
        environment = container_environment(pod, container, directory, self._surroundings)
        return Launch(
            argv=command_line(container, environment),
            environment=environment,
            working_directory=working_directory(container, directory),
            memory_limit_bytes=memory_limit_bytes(container),
            grace_seconds=float(pod["spec"]["terminationGracePeriodSeconds"]),
            deadline=_deadline(pod),
        )

    def _image_problem(self, pod: Json, container: Json, message: str | None) -> Waiting:
        """First the pull error, then the back-off, as the kubelet alternates between them."""
        image, name = container["image"], container["name"]
        cause = message or absent_image(image)
        statuses = pod["status"].get("containerStatuses") or []
        before = [s["state"].get("waiting", {}).get("reason") for s in statuses if s["name"] == name]
        if before and before[0] in ("ErrImagePull", "ImagePullBackOff"):
            back_off = f'Back-off pulling image "{image}"'
            if not self._events.told(pod, "BackOff", back_off):
                self._events.normal(pod, "BackOff", back_off, container=name)
            self._warn_once(pod, "Failed", "Error: ImagePullBackOff", name)
            return Waiting(reason="ImagePullBackOff", message=f"{back_off}: ErrImagePull: {cause}")
        if not self._events.told(pod, "Pulling", f'Pulling image "{image}"'):
            self._events.normal(pod, "Pulling", f'Pulling image "{image}"', container=name)
        self._warn_once(pod, "Failed", f'Failed to pull image "{image}": {cause}', name)
        self._warn_once(pod, "Failed", "Error: ErrImagePull", name)
        return Waiting(reason="ErrImagePull", message=cause)

    def _warn_once(self, pod: Json, reason: str, message: str, container: str | None) -> None:
        if not self._events.told(pod, reason, message):
            self._events.warning(pod, reason, message, container=container)

    def _explained(self, pod: Json, container: Json, state: ContainerState) -> ContainerState:
        """The state of a container that has ended with the message it left."""
        if not isinstance(state, Terminated):
            return state
        directory = self.directory(pod).container(container["name"])
        return replace(state, message=termination_message(container, directory, state))

    def _report(self, pod: Json, states: dict[str, ContainerState], order: StopOrder | None) -> Json:
        """The pod with its new status, stored when it differs; its transitions told as events."""
        ended = order is not None and not self.anything_runs(pod)
        status = pod_status(pod, states, order.verdict() if order is not None and ended else None)
        if status == pod["status"]:
            return pod
        updated = self._store.update("pods", {**pod, "status": status})
        self._tell_transitions(pod, updated, states)
        return updated

    def _tell_transitions(self, old: Json, pod: Json, states: dict[str, ContainerState]) -> None:
        before = started_containers(old)
        for name, state in states.items():
            if name in before or isinstance(state, Waiting):
                continue
            self._events.normal(pod, "Created", f"Created container: {name}", container=name)
            if isinstance(state, Terminated) and state.reason == "StartError":
                self._events.warning(pod, "Failed", f"Error: {state.message}", container=name)
                continue
            self._events.normal(pod, "Started", f"Started container {name}", container=name)
        if pod["status"].get("reason") == DEADLINE_EXCEEDED.reason:
            self._events.warning(pod, DEADLINE_EXCEEDED.reason, pod["status"]["message"])

    def stop(self, pod: Json, order: StopOrder) -> StopOrder:
        """Have a pod ended by the order in force, which is kept, so that a restarted server carries it out too."""
        directory = self.directory(pod)
        directory.path.mkdir(parents=True, exist_ok=True)
        first = directory.stop_order() is None
        order = directory.order_stop(order)
        if first and not order.frozen:
            for name in started_containers(pod, running_only=True):
                self._events.normal(pod, "Killing", f"Stopping container {name}", container=name)
        self._carry_out(pod, order)
        return order

    def kill_for_memory(self, pod: Json) -> None:
        """What the kernel does to a container over its limit, done to the pod's first container."""
        handle = self.handle(pod, pod["spec"]["containers"][0]["name"])
        handle.stop(at=time.time(), grace_seconds=0.0, reason="OOMKilled")

    def _carry_out(self, pod: Json, order: StopOrder) -> None:
        overdue = time.time() > order.at + order.grace_seconds + _OVERDUE_SECONDS
        for container in self.containers(pod):
            handle = self.handle(pod, container["name"])
            if not handle.launched or isinstance(handle.observe(), Terminated):
                continue
            if overdue or order.frozen:
                handle.destroy()
            else:
                handle.stop(at=order.at, grace_seconds=order.grace_seconds)

    def _remove_if_due(self, pod: Json, order: StopOrder) -> None:
        """Remove a deleted pod once nothing of it runs any more."""
        if not pod["metadata"].get("deletionTimestamp"):
            return
        if time.time() < order.at + order.removed_after_seconds:
            return
        if not self.anything_runs(pod):
            self.forget(pod)

    def anything_runs(self, pod: Json) -> bool:
        """Whether a container of the pod was started and has not ended."""
        handles = [self.handle(pod, container["name"]) for container in self.containers(pod)]
        return any(h.launched and not isinstance(h.observe(), Terminated) for h in handles)

    def forget(self, pod: Json) -> None:
        """Remove the object and all the pod left on disk."""
        try:
            self._store.remove("pods", self._store.get("pods", *_key(pod)))
        except ApiFailure as failure:
            if failure.code != 404:
                raise
        self.directory(pod).remove()

    def running_seconds(self, pod: Json) -> float | None:
        """For how long the pod's first container has been running, or None when it is not."""
        handle = self.handle(pod, pod["spec"]["containers"][0]["name"])
        if not isinstance(handle.observe(), Running):
            return None
        return time.time() - (handle.directory / "running.json").stat().st_mtime


def _key(pod: Json) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _succeeded(state: ContainerState) -> bool:
    return isinstance(state, Terminated) and state.exit_code == 0


def _deadline(pod: Json) -> float | None:
    """Epoch seconds at which the pod has been long enough on its node, whatever it did there; None: never."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = epoch_seconds(pod["status"].get("startTime") or rfc3339())
    return None if seconds is None else started + float(seconds)


def _waits_past_deadline(pod: Json, states: dict[str, ContainerState]) -> bool:
    """Whether the deadline has passed a container that did not start; those that did are ended by their shims."""
    deadline = _deadline(pod)
    waits = any(isinstance(state, Waiting) for state in states.values())
    return deadline is not None and time.time() >= deadline and waits


def _deadline_order(pod: Json) -> StopOrder:
    grace = float(pod["spec"]["terminationGracePeriodSeconds"])
    late = DEADLINE_EXCEEDED
    return StopOrder(at=time.time(), grace_seconds=grace, reason=late.reason, message=late.message)


def started_containers(pod: Json, *, running_only: bool = False) -> set[str]:
    """Names of the containers that the stored status shows as started (or as running)."""
    status = pod["status"]
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    kinds = {"running"} if running_only else {"running", "terminated"}
    return {item["name"] for item in statuses if kinds & item["state"].keys()}
