"""What is known about a pod whose task failed, as plain Kubernetes JSON; nothing here talks to a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]
BASE = "base"
"""Name of the container that does the work."""
_ANSWER = re.compile(r"\((\d{3})\)\s+Reason:")
_ANSWER_MESSAGE = re.compile(r'"message":\s*"((?:[^"\\]|\\.)*)"')
_NO_POD = re.compile(r'pods \\?"[^"]+" not found|Pod \S+ not found')


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A pod as it was last seen, its events, and the error its task failed with."""

    name: str | None = None
    """None: no pod was ever made."""
    pod: Json = field(default_factory=dict)
    """As last seen before the operator deleted it; empty when it was never seen."""
    events: Sequence[Json] = ()
    """Oldest first. They outlive the pod by an hour."""
    nodes: Sequence[Json] | None = None
    """None: this account may not list nodes."""
    error: str = ""
    """Messages of the exception and of those that led to it, each with its class's name."""

    @property
    def status(self) -> Json:
        return self.pod.get("status") or {}

    @property
    def node(self) -> str | None:
        """Name of the node the pod was on, or None."""
        name: str | None = (self.pod.get("spec") or {}).get("nodeName")
        return name or self._assigned_node()

    @property
    def container(self) -> Json:
        """Spec of the container that does the work."""
        found = [c for c in (self.pod.get("spec") or {}).get("containers") or [] if c.get("name") == BASE]
        return found[0] if found else {}

    @property
    def terminated(self) -> Json:
        """How the container ended; empty when it was not seen to end."""
        return self._state("terminated")

    @property
    def waiting(self) -> Json:
        """What the container waits for; empty when it does not."""
        return self._state("waiting")

    @property
    def scheduled(self) -> bool:
        """Whether the pod ever had a node."""
        return self.node is not None

    @property
    def gone(self) -> bool:
        """Whether somebody else than the operator removed the pod, or was about to."""
        deleted = "deletionTimestamp" in (self.pod.get("metadata") or {})
        return deleted or _NO_POD.search(self.error) is not None

    @property
    def answer(self) -> int | None:
        """HTTP status of the call that the Kubernetes API refused, or None."""
        found = _ANSWER.search(self.error)
        return int(found[1]) if found else None

    @property
    def answer_message(self) -> str:
        """What the Kubernetes API said when it refused."""
        found = _ANSWER_MESSAGE.search(self.error)
        return str(json.loads(f'"{found[1]}"')) if found else ""

    def condition(self, kind: str) -> Json:
        """The pod's condition of that type; empty when it has none."""
        found = [c for c in self.status.get("conditions") or [] if c.get("type") == kind]
        return found[0] if found else {}

    def event(self, *reasons: str) -> Json:
        """The latest event with one of the reasons, but for what befell it being deleted; empty when there is none."""
        found = [event for event in self.events if event.get("reason") in reasons and not _is_afterthought(event)]
        return found[-1] if found else {}

    def _state(self, name: str) -> Json:
        for status in self.status.get("containerStatuses") or []:
            if status.get("name") == BASE:
                return (status.get("state") or {}).get(name) or {}
        return {}

    def _assigned_node(self) -> str | None:
        message = self.event("Scheduled").get("message") or ""
        return message.rpartition(" to ")[2] or None


def _is_afterthought(event: Json) -> bool:
    return str(event.get("message") or "").startswith("skip schedule deleting pod")
