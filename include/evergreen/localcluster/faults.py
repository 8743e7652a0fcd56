"""Faults that are switched on: which kind, for which pods, when, and how often."""

from __future__ import annotations

import random
import uuid
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from evergreen.localcluster.api_failure import ApiFailure
from evergreen.localcluster.selectors import label_selector
from evergreen.localcluster.wire import Json, read_json, write_json


class FaultKind(StrEnum):
    """What can be made to go wrong, as Kubernetes shows it."""

    EVICT = "evict"
    """The kubelet evicts the running pod: Failed, reason Evicted."""
    OOM = "oom"
    """The running container is killed for memory: exit code 137, reason OOMKilled."""
    DELETE = "delete"
    """Somebody deletes the running pod."""
    NODE_LOST = "node_lost"
    """The pod's node vanishes with everything on it; its pods are then garbage collected."""
    LOG_CUT = "log_cut"
    """A log stream breaks in the middle of a line; the pod runs on."""
    PREEMPT_BEFORE_START = "preempt_before_start"
    """The pod is deleted for a more important one after it was scheduled, before it starts."""
    NEVER_SCHEDULED = "never_scheduled"
    """No node takes the pod, until the fault is cleared."""
    IMAGE_PULL_FAILS = "image_pull_fails"
    """The image cannot be pulled, until the fault is cleared."""


class Fault(BaseModel):
    """One fault: strikes pods that match, `times` at most, each with `probability`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    kind: FaultKind
    selector: str = ""
    """Label selector; the empty one matches every pod."""
    image: str | None = None
    """Strike only pods with a container of this image."""
    after_seconds: float = Field(default=0.0, ge=0)
    """How long the pod must have been running."""
    probability: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=1, ge=1)
    """How many pods may be struck; None for any number."""
    message: str | None = None
    """Replaces the usual message of the fault."""
    struck: tuple[str, ...] = ()
    """Uids of pods it has struck."""
    spared: tuple[str, ...] = ()
    """Uids of pods that matched and were lucky: the dice are thrown once a pod."""

    @field_validator("selector")
    @classmethod
    def _is_a_selector(cls, text: str) -> str:
        try:
            label_selector(text)
        except ApiFailure as failure:
            raise ValueError(failure.message) from failure
        return text

    def matches(self, pod: Json) -> bool:
        """Whether the pod is one this fault is meant for."""
        images = {container["image"] for container in pod["spec"]["containers"]}
        return label_selector(self.selector)(pod) and (self.image is None or self.image in images)

    def exhausted(self) -> bool:
        """Whether it has struck as often as it may."""
        return self.times is not None and len(self.struck) >= self.times


class FaultBook:
    """The faults that are on, kept in a file so that they survive a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = read_json(path) or {"faults": []}
        self._faults = {fault.id: fault for fault in map(Fault.model_validate, kept["faults"])}

    def all(self) -> list[Fault]:
        """Every fault that was switched on and not cleared, spent ones included."""
        return list(self._faults.values())

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._faults[fault.id] = fault
        self._save()

    def clear(self, id_: str | None = None) -> None:
        """Switch one fault off, or all of them; pods held back by it go on."""
        for known in [id_] if id_ is not None else list(self._faults):
            self._faults.pop(known, None)
        self._save()

    def strike(self, kind: FaultKind, pod: Json, running_seconds: float = 0.0) -> Fault | None:
        """The fault that strikes this pod now, for the first and only time; None when none does."""
        for fault in self._candidates(kind, pod):
            if fault.after_seconds <= running_seconds and self._throw_dice(fault, pod):
                return fault
        return None

    def hold(self, kind: FaultKind, pod: Json) -> Fault | None:
        """The fault that holds this pod back, as long as it is on; None when none does."""
        uid = pod["metadata"]["uid"]
        holding = (fault for fault in self.all() if fault.kind == kind and uid in fault.struck)
        return next(holding, None) or self.strike(kind, pod)

    def _candidates(self, kind: FaultKind, pod: Json) -> list[Fault]:
        uid = pod["metadata"]["uid"]
        return [
            fault
            for fault in self.all()
            if fault.kind == kind
            and not fault.exhausted()
            and uid not in fault.struck
            and uid not in fault.spared
            and fault.matches(pod)
        ]

    def _throw_dice(self, fault: Fault, pod: Json) -> bool:
        hit = random.random() < fault.probability
        column = "struck" if hit else "spared"
        known: tuple[str, ...] = getattr(fault, column)
        self.add(fault.model_copy(update={column: (*known, pod["metadata"]["uid"])}))
        return hit

    def _save(self) -> None:
        write_json(self._path, {"faults": [fault.model_dump(mode="json") for fault in self.all()]})
