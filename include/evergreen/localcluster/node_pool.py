"""The nodes of the cluster and which of them are lost at the moment."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evergreen.localcluster.nodes import Node, free_amounts, node_object, reasons_against
from evergreen.localcluster.wire import Json


class NodePool:
    """Finds a node for a pod. A lost node comes back by itself, or a one-node cluster would be dead."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self._back_at: dict[str, float] = {}

    def lose(self, name: str, seconds: float) -> None:
        """Make a node unreachable for a while."""
        self._back_at[name] = time.time() + seconds

    def is_ready(self, name: str) -> bool:
        """Whether the node is there."""
        return self._back_at.get(name, 0.0) <= time.time()

    def place(self, pod: Json, pods: Sequence[Json]) -> tuple[str | None, str]:
        """The node that takes the pod, or None and the scheduler's sentence why none does."""
        refusals: list[str] = []
        for node in self.nodes:
            free = free_amounts(node, pods)
            against = reasons_against(pod, node, free, ready=self.is_ready(node.name))
            if not against:
                return node.name, ""
            refusals += against
        return None, self.unavailable(refusals)

    def unavailable(self, refusals: Sequence[str]) -> str:
        """The sentence the real scheduler writes: every reason with the number of nodes it holds for."""
        counted = sorted(f"{refusals.count(reason)} {reason}" for reason in set(refusals))
        return f"0/{len(self.nodes)} nodes are available: {', '.join(counted)}."

    def objects(self, revision: int) -> list[Json]:
        """The nodes as the API lists them."""
        return [node_object(node, ready=self.is_ready(node.name), revision=revision) for node in self.nodes]
