from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from evergreen.localcluster.container_environment import POD_UID_VARIABLE
from evergreen.localcluster.server_process import LocalCluster

FAMILY = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(900)"]
subprocess.Popen(sleeper)
subprocess.Popen(sleeper, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.Popen(sleeper)
        time.sleep(900)
    os._exit(0)
os.wait()
print("family complete")
time.sleep(900)
"""


def processes_of(uid: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(POD_UID_VARIABLE) == uid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for_log(pods: Any, name: str, line: str) -> None:
    pods.phase(name, "Running")
    while line not in pods.log(name):
        time.sleep(0.05)


def wait_for_family(pods: Any, uid: str) -> None:
    """Wait until the process, its two children and the daemon with its own child are all there."""
    wait_for_log(pods, "family", "family complete")
    while len(processes_of(uid)) < 5:
        time.sleep(0.05)


@pytest.mark.parametrize("grace_seconds", [0, 5], ids=["at once", "with grace"])
def test_no_process_outlives_its_pod_not_even_daemons(pods: Any, grace_seconds: int) -> None:
    uid = pods.python("family", FAMILY).metadata.uid
    wait_for_family(pods, uid)
    pods.api.delete_namespaced_pod("family", "default", grace_period_seconds=grace_seconds)
    pods.gone("family")
    assert processes_of(uid) == []


def test_no_process_outlives_a_container_that_ends_by_itself(pods: Any) -> None:
    uid = pods.python("leaving", FAMILY.replace("time.sleep(900)\n", "\n", 2)).metadata.uid
    assert pods.ended("leaving").exit_code == 0
    assert processes_of(uid) == []


def test_pod_that_ignores_sigterm_is_killed_after_its_grace(pods: Any) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(900)"
    uid = pods.python("deaf", program, terminationGracePeriodSeconds=1).metadata.uid
    wait_for_log(pods, "deaf", "deaf")
    started = time.monotonic()
    pods.api.delete_namespaced_pod("deaf", "default")
    pods.gone("deaf")
    assert time.monotonic() - started > 0.8
    assert processes_of(uid) == []


def test_deleted_pod_leaves_nothing_on_disk(pods: Any, cluster: LocalCluster) -> None:
    uid = pods.python("tidy", "print('x')").metadata.uid
    pods.phase("tidy", "Succeeded")
    assert (cluster.directory / "pods" / uid).exists()
    pods.api.delete_namespaced_pod("tidy", "default")
    pods.gone("tidy")
    assert not (cluster.directory / "pods" / uid).exists()


def test_stopped_cluster_leaves_no_process_behind(local_cluster: LocalCluster, own_pods: Any) -> None:
    uid = own_pods.python("family", FAMILY).metadata.uid
    wait_for_family(own_pods, uid)
    local_cluster.stop()
    assert processes_of(uid) == []
    local_cluster.start()
    status = own_pods.read("family").status
    assert (status.phase, status.reason) == ("Failed", "Terminated")
