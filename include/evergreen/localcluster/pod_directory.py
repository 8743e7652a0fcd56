"""What one pod keeps on disk beside its object: containers, volumes, and the order to end it.

pods/UID/stop.json             why the pod is to end, and how fast (a StopOrder)
pods/UID/containers/NAME/      one container (see shim.py)
pods/UID/volumes/NAME/         emptyDir, secret and configMap volumes
pods/UID/work/  pods/UID/tmp/  working directory and TMPDIR of its containers
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from evergreen.localcluster.pod_status import Verdict
from evergreen.localcluster.wire import Json, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class StopOrder:
    """Why a pod is to end, decided once and kept until it is gone."""

    at: float
    """Epoch seconds of the decision."""
    grace_seconds: float
    reason: str | None = None
    """status.reason of the pod that ended so; None when it was simply deleted."""
    message: str = ""
    disruption: str | None = None
    removed_after_seconds: float = 0.0
    """How long the ended pod can still be read before it vanishes, when it is to be deleted."""
    frozen: bool = False
    """The node is gone: nobody reports on the pod any more."""

    def verdict(self) -> Verdict | None:
        """What the pod's status says of it."""
        if self.reason is None:
            return None
        return Verdict(reason=self.reason, message=self.message, disruption=self.disruption)


class PodDirectory:
    """The directory of one pod, found by its uid."""

    def __init__(self, root: Path, uid: str) -> None:
        self.path = root / uid

    def container(self, name: str) -> Path:
        """Where the shim of that container works."""
        return self.path / "containers" / name

    def log(self, container: str) -> Path:
        """The log of that container."""
        return self.container(container) / "log"

    def volume(self, name: str) -> Path:
        """The directory behind that volume."""
        return self.path / "volumes" / name

    def scratch(self, name: str) -> Path:
        """A directory of the pod's own, made when asked for."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def stop_order(self) -> StopOrder | None:
        """The order to end the pod, or None."""
        kept = read_json(self.path / "stop.json")
        return None if kept is None else StopOrder(**kept)

    def order_stop(self, order: StopOrder) -> StopOrder:
        """The order in force: the first one's reason stands, the shortest grace wins."""
        before = self.stop_order()
        if before is not None:
            ends = min(before.at + before.grace_seconds, order.at + order.grace_seconds)
            kept: Json = {**asdict(before), "grace_seconds": max(0.0, ends - before.at)}
            order = StopOrder(**kept)
        write_json(self.path / "stop.json", asdict(order))
        return order

    def remove(self) -> None:
        """Delete everything the pod left on disk."""
        shutil.rmtree(self.path, ignore_errors=True)
