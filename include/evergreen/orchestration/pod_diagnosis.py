"""What a diagnosis of a failed pod says: cause, remedy, and what shall happen next.

| action | when |
|---|---|
| resume | the cluster took the pod away: go on from the checkpoint without spending a retry |
| halve | out of memory: again with half the micro-batch |
| retry | something that may pass: an ordinary retry |
| fail | no retry can help |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens after a failure."""

    RESUME = "resume"
    HALVE = "halve"
    RETRY = "retry"
    FAIL = "fail"


class Cause(StrEnum):
    """Why a pod failed, as records and messages name it."""

    NOT_OFFERED = "not offered"
    NO_ROOM = "no room"
    NOT_STARTED = "not started"
    QUOTA = "quota exceeded"
    FORBIDDEN = "forbidden"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    KUBECONFIG = "kubeconfig"
    UNREACHABLE = "unreachable"
    IMAGE = "image"
    REGISTRY = "registry"
    CONTAINER = "container"
    EVICTED = "evicted"
    STORAGE = "storage"
    PREEMPTED = "preempted"
    NODE_LOST = "node lost"
    DELETED = "deleted"
    OUT_OF_MEMORY = "out of memory"
    DEADLINE = "deadline"
    CONFIGURATION = "configuration"
    DATA = "data"
    TEMPORARY = "temporary"
    EXIT = "exit"
    UNKNOWN = "unknown"


ACTIONS = {
    Cause.NOT_OFFERED: Action.FAIL,
    Cause.NO_ROOM: Action.RETRY,
    Cause.NOT_STARTED: Action.RETRY,
    Cause.QUOTA: Action.RETRY,
    Cause.FORBIDDEN: Action.FAIL,
    Cause.UNAUTHORIZED: Action.FAIL,
    Cause.REFUSED: Action.FAIL,
    Cause.KUBECONFIG: Action.FAIL,
    Cause.UNREACHABLE: Action.RETRY,
    Cause.IMAGE: Action.FAIL,
    Cause.REGISTRY: Action.RETRY,
    Cause.CONTAINER: Action.FAIL,
    Cause.EVICTED: Action.RESUME,
    Cause.STORAGE: Action.FAIL,
    Cause.PREEMPTED: Action.RESUME,
    Cause.NODE_LOST: Action.RESUME,
    Cause.DELETED: Action.RESUME,
    Cause.OUT_OF_MEMORY: Action.HALVE,
    Cause.DEADLINE: Action.FAIL,
    Cause.CONFIGURATION: Action.FAIL,
    Cause.DATA: Action.FAIL,
    Cause.TEMPORARY: Action.RETRY,
    Cause.EXIT: Action.RETRY,
    Cause.UNKNOWN: Action.RETRY,
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a pod failed and what helps."""

    cause: Cause
    sentence: str
    remedy: str

    @property
    def action(self) -> Action:
        """What shall happen next."""
        return ACTIONS[self.cause]

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"
