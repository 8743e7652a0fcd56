"""The made-up nodes of the cluster: what each offers, and which pods fit."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import psutil

from evergreen.errors import ConfigurationError
from evergreen.localcluster.quantities import Amounts, parse_quantity, pod_requests
from evergreen.localcluster.wire import Json, rfc3339

_REMEDY = "Write a node as name=NAME,cpu=2,memory=8Gi,nvidia.com/gpu=1,label:KEY=VALUE."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
UNREACHABLE = "node(s) had untolerated taint(s)"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: what it offers to pods, in cores, bytes and devices."""

    name: str
    capacity: Amounts
    labels: dict[str, str] = field(default_factory=dict)

    def all_labels(self) -> dict[str, str]:
        """Its own labels and those every node carries."""
        architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        fixed = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture}
        return {**fixed, **self.labels}


def this_machine() -> Node:
    """The default node: this machine's cores, memory and disk, and one made-up GPU."""
    return Node(
        name="local-0",
        capacity={
            "cpu": Decimal(os.cpu_count() or 1),
            "memory": Decimal(psutil.virtual_memory().total),
            "ephemeral-storage": Decimal(shutil.disk_usage("/").total),
            "nvidia.com/gpu": Decimal(1),
            "pods": Decimal(110),
        },
    )


def parse_node(text: str) -> Node:
    """The node that `name=...,cpu=...,memory=...` describes; ConfigurationError when it does not."""
    pairs = dict(part.partition("=")[::2] for part in text.split(",") if part)
    name = pairs.pop("name", "")
    if not name:
        raise ConfigurationError("--node", found=repr(text), wanted="a name", remedy=_REMEDY)
    labels = {k.removeprefix("label:"): v for k, v in pairs.items() if k.startswith("label:")}
    amounts = {k: v for k, v in pairs.items() if not k.startswith("label:")}
    try:
        capacity = {k: parse_quantity(v) for k, v in amounts.items()}
    except ValueError as error:
        raise ConfigurationError("--node", found=repr(text), wanted=str(error), remedy=_REMEDY) from error
    capacity = {**this_machine().capacity, "nvidia.com/gpu": Decimal(0), **capacity}
    return Node(name=name, capacity=capacity, labels=labels)


def free_amounts(node: Node, pods: Iterable[Json]) -> Amounts:
    """What is left of a node's capacity beside the pods that hold a place on it."""
    used: Counter[str] = Counter()
    for pod in pods:
        if pod["spec"].get("nodeName") == node.name and holds_its_place(pod):
            used.update(pod_requests(pod["spec"]))
    return {name: amount - Decimal(used.get(name, 0)) for name, amount in node.capacity.items()}


def holds_its_place(pod: Json) -> bool:
    """Whether a bound pod still takes room: until its containers have ended."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def reasons_against(pod: Json, node: Node, free: Amounts, *, ready: bool) -> list[str]:
    """Why the pod cannot go to the node, in the scheduler's words; empty when it can."""
    if not ready:
        return [UNREACHABLE]
    wanted_labels = pod["spec"].get("nodeSelector") or {}
    if not wanted_labels.items() <= node.all_labels().items():
        return ["node(s) didn't match Pod's node affinity/selector"]
    asked = pod_requests(pod["spec"])
    lacking = [name for name, amount in asked.items() if amount > free.get(name, Decimal(0))]
    return ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in lacking]


def node_object(node: Node, *, ready: bool, revision: int) -> Json:
    """The node as the API shows it."""
    amounts = {name: _plain(amount) for name, amount in node.capacity.items()}
    state = "True" if ready else "Unknown"
    reason = "KubeletReady" if ready else "NodeStatusUnknown"
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": node.name,
            "uid": f"node-{node.name}",
            "labels": node.all_labels(),
            "resourceVersion": str(revision),
        },
        "spec": {} if ready else {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{"type": "Ready", "status": state, "reason": reason, "lastHeartbeatTime": rfc3339()}],
        },
    }


def _plain(amount: Decimal) -> str:
    whole = amount.to_integral_value()
    return str(whole) if amount == whole else f"{int(amount * 1000)}m"
