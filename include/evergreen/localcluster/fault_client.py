"""Switches faults of a running local cluster on and off, from a test or a shell."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from evergreen.localcluster.credentials import read_kubeconfig
from evergreen.localcluster.faults import Fault, FaultKind
from evergreen.localcluster.wire import Json

_TIMEOUT_SECONDS = 120


def call(kubeconfig: Path, method: str, path: str, body: Json | None = None) -> Json:
    """The JSON answer of a call to the cluster; HTTPError or URLError when it fails."""
    url, token = read_kubeconfig(kubeconfig)
    request = urllib.request.Request(  # noqa: S310 - the URL is that of our own kubeconfig
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        content: Json = json.load(answer)
    return content


class Faults:
    """The fault switches of one cluster.

    Every switch takes a label selector (all pods by default) and the options of `Fault`: `after_seconds` of running,
    `probability`, `times` (1 by default: the next pod that matches; None for every pod), `message`. Each gives back
    the fault's id.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def switch_on(self, kind: FaultKind, selector: str = "", **options: Any) -> str:
        """The id of the new fault; HTTPError 422 when an option is wrong."""
        fault = Fault(kind=kind, selector=selector, **options)
        call(self._kubeconfig, "POST", "/evergreen/faults", fault.model_dump(mode="json"))
        return fault.id

    def evict(self, selector: str = "", **options: Any) -> str:
        """The kubelet evicts the running pod."""
        return self.switch_on(FaultKind.EVICT, selector, **options)

    def oom(self, selector: str = "", **options: Any) -> str:
        """The running container is killed for memory."""
        return self.switch_on(FaultKind.OOM, selector, **options)

    def delete(self, selector: str = "", **options: Any) -> str:
        """Somebody deletes the running pod."""
        return self.switch_on(FaultKind.DELETE, selector, **options)

    def node_lost(self, selector: str = "", **options: Any) -> str:
        """The node of the running pod vanishes, with everything on it."""
        return self.switch_on(FaultKind.NODE_LOST, selector, **options)

    def log_cut(self, selector: str = "", **options: Any) -> str:
        """A log stream of the running pod breaks in the middle of a line."""
        return self.switch_on(FaultKind.LOG_CUT, selector, **options)

    def preempt_before_start(self, selector: str = "", **options: Any) -> str:
        """The scheduled pod is deleted for a more important one before it starts."""
        return self.switch_on(FaultKind.PREEMPT_BEFORE_START, selector, **options)

    def never_scheduled(self, selector: str = "", **options: Any) -> str:
        """No node takes the pod until the fault is cleared."""
        return self.switch_on(FaultKind.NEVER_SCHEDULED, selector, **options)

    def image_pull_fails(self, selector: str = "", **options: Any) -> str:
        """The image cannot be pulled until the fault is cleared."""
        return self.switch_on(FaultKind.IMAGE_PULL_FAILS, selector, **options)

    def all(self) -> list[Fault]:
        """The faults that are on, with the pods they struck."""
        return [Fault.model_validate(item) for item in call(self._kubeconfig, "GET", "/evergreen/faults")["faults"]]

    def clear(self, id_: str | None = None) -> None:
        """Switch one fault off, or all; pods held back by it go on."""
        call(self._kubeconfig, "DELETE", "/evergreen/faults" + (f"/{id_}" if id_ else ""))
