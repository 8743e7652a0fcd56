"""A local cluster as a process of its own: started, killed, restarted and stopped by a test or a supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from evergreen.errors import TemporaryError
from evergreen.localcluster.credentials import KUBECONFIG, read_kubeconfig
from evergreen.localcluster.fault_client import Faults, call
from evergreen.localcluster.wire import Json

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0


class LocalCluster:
    """A running local cluster. `start` before use; `stop` ends its pods too."""

    def __init__(self, directory: Path, *, nodes: Sequence[str] = (), port: int = 0) -> None:
        self.directory = directory
        self.kubeconfig = directory / KUBECONFIG
        self.faults = Faults(self.kubeconfig)
        self._nodes = tuple(nodes)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers; TemporaryError when it does not."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "evergreen.localcluster", "--directory", str(self.directory)]
        command += ["--port", str(self._port), *(word for node in self._nodes for word in ("--node", node))]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_until_ready(self._process)
        # A restarted cluster is where its clients know it.
        self._port = int(read_kubeconfig(self.kubeconfig)[0].rpartition(":")[2])

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up_at = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < give_up_at:
            if is_ready(self.kubeconfig):
                return
            time.sleep(0.05)
        self.kill()
        log = (self.directory / "server.log").read_text(errors="replace")
        raise TemporaryError(
            "local cluster",
            found=f"no answer within {_START_SECONDS:.0f} s",
            wanted="a server that answers",
            remedy=f"Read {self.directory / 'server.log'}.",
            details=log[-2000:],
        )

    def pods(self) -> list[Json]:
        """Every pod of every namespace, as the API shows it."""
        items: list[Json] = call(self.kubeconfig, "GET", "/api/v1/pods")["items"]
        return items

    def kill(self) -> None:
        """Kill the server as a crash would; the pods run on."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill the server and start another one, which takes the running pods over."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stop the server in order; it ends its pods first."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def is_ready(kubeconfig: Path) -> bool:
    """Whether a cluster answers where this kubeconfig points."""
    if not kubeconfig.exists():
        return False
    try:
        call(kubeconfig, "GET", "/version")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True
