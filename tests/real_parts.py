"""Real parts that tests run against when the machine has the tools that start them.

`EVERGREEN_TEST_TOOLS` names a folder with two scripts: `kube-up KUBECONFIG` (a real Kubernetes), which also does
`kube-up image NAME DOCKERFILE CONTEXT [ARGS]` (build an image and load it there) and `kube-up gpu N` (made-up GPUs on
its node), and `s3-up DIR PORT` (a real S3 server). Each is started on first use, takes a moment when it already runs,
and stays up.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tenacity import retry, stop_after_attempt

STATE = Path(os.environ.get("EVERGREEN_TEST_STATE", Path.home() / ".cache" / "evergreen-test"))
S3_PORT = 9100
LEASES = "--osd_pool_default_read_lease_ratio=0.8"
"""Ceph's own default, 16 s. Shorter ones make restarts quick, but a cluster of one disk does not renew a lease that ran
out while the machine was busy: every write then hangs."""


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and the keys to it."""

    endpoint: str
    options: Mapping[str, str]
    """`AWS_*` variables as `evergreen.lake.Lake` takes them."""


def tools_at_hand() -> Path | None:
    """Folder of the scripts that start real parts, where there is one."""
    named = os.environ.get("EVERGREEN_TEST_TOOLS")
    return Path(named) if named else None


@pytest.fixture(scope="session")
def tools() -> Path:
    """Folder of the scripts that start real parts; the test is skipped where there is none."""
    folder = tools_at_hand()
    if folder is None:
        pytest.skip("EVERGREEN_TEST_TOOLS is not set: no real Kubernetes or S3 server here (see make test-cluster)")
    return folder


@pytest.fixture(scope="session")
def kubeconfig(tools: Path) -> Path:
    """Kubeconfig of a real one-node Kubernetes, its namespaces free to be made and deleted."""
    return start_cluster(tools)


@pytest.fixture(scope="session")
def s3(tools: Path) -> S3Server:
    """A real S3 server on loopback."""
    return start_s3(tools, STATE / "s3", S3_PORT, CEPH_ARGS=LEASES)


def start_cluster(tools: Path) -> Path:
    """Kubeconfig of the real cluster, started if it does not run."""
    path = STATE / "kubeconfig"
    path.parent.mkdir(parents=True, exist_ok=True)
    _run(tools / "kube-up", str(path))
    return path


def start_s3(tools: Path, folder: Path, port: int, **variables: str) -> S3Server:
    """The S3 server of `folder`, started with `variables` if it does not run.

    On a busy machine it may take a part that it has only just started for one that ended; the next call finds it.
    """
    exports = _run_again(tools / "s3-up", str(folder), str(port), **variables)
    words = (word for line in exports.splitlines() for word in shlex.split(line) if "=" in word)
    variables = dict(word.split("=", 1) for word in words)
    options = {name: value for name, value in variables.items() if name.startswith("AWS_")}
    return S3Server(endpoint=options["AWS_ENDPOINT_URL"], options=options)


def _run(script: Path, *arguments: str, **variables: str) -> str:
    command = [str(script), *arguments]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script.name} failed:\n{done.stderr[-2000:]}"
    return done.stdout


@retry(stop=stop_after_attempt(3), reraise=True)
def _run_again(script: Path, *arguments: str, **variables: str) -> str:
    return _run(script, *arguments, **variables)


@pytest.fixture(scope="session")
def gpu(tools: Path, kubeconfig: Path) -> None:
    """The cluster's node offers a made-up nvidia.com/gpu."""
    _run(tools / "kube-up", "gpu", "1")
