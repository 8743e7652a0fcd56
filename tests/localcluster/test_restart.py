from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from evergreen.localcluster.credentials import read_kubeconfig
from evergreen.localcluster.server_process import LocalCluster
from evergreen.localcluster.wire import read_json

AWAIT = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
COUNT = f"for i in range(59): print(i)\n{AWAIT}print(59); raise SystemExit(42)"


def test_running_pod_is_adopted_by_the_next_server_and_loses_nothing(
    local_cluster: LocalCluster, own_pods: Any, tmp_path: Path
) -> None:
    own_pods.create("long", ["python", "-uc", COUNT, str(tmp_path / "go")])
    pod = own_pods.phase("long", "Running")
    started = pod.status.container_statuses[0].state.running.started_at
    local_cluster.restart()
    again = own_pods.read("long")
    assert again.status.phase == "Running"
    assert again.metadata.uid == pod.metadata.uid
    (tmp_path / "go").touch()
    assert own_pods.log("long", follow=True) == [str(i) for i in range(60)]
    ended = own_pods.ended("long")
    assert (ended.exit_code, ended.started_at) == (42, started)
    assert [reason for reason, _ in own_pods.events("long")].count("Started") == 1


def test_pod_that_ends_while_no_server_is_there_reports_its_exit_code(
    local_cluster: LocalCluster, own_pods: Any, tmp_path: Path
) -> None:
    own_pods.create("short", ["python", "-uc", AWAIT + "print('done'); raise SystemExit(3)", str(tmp_path / "go")])
    own_pods.phase("short", "Running")
    local_cluster.kill()
    (tmp_path / "go").touch()
    time.sleep(1.0)
    local_cluster.start()
    assert own_pods.ended("short").exit_code == 3
    assert own_pods.log("short") == ["done"]


def test_limits_hold_while_no_server_is_there(local_cluster: LocalCluster, own_pods: Any, tmp_path: Path) -> None:
    greedy = ["python", "-c", AWAIT + "x = bytearray(300 << 20); time.sleep(900)", str(tmp_path / "go")]
    own_pods.create("greedy", greedy, container={"resources": {"limits": {"memory": "100Mi"}}})
    own_pods.phase("greedy", "Running")
    own_pods.python("late", "import time; time.sleep(900)", activeDeadlineSeconds=5)
    own_pods.phase("late", "Running", "Failed")
    local_cluster.kill()
    (tmp_path / "go").touch()
    time.sleep(5.5)
    local_cluster.start()
    assert own_pods.ended("greedy").reason == "OOMKilled"
    assert own_pods.phase("late", "Failed").status.reason == "DeadlineExceeded"


def test_pending_pod_and_deletion_under_way_go_on_after_a_crash(local_cluster: LocalCluster, own_pods: Any) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(900)"
    own_pods.python("leaving", deaf, terminationGracePeriodSeconds=2)
    own_pods.phase("leaving", "Running")
    while "deaf" not in own_pods.log("leaving"):
        time.sleep(0.05)
    local_cluster.faults.never_scheduled()
    own_pods.python("held", "print('ran')")
    own_pods.wait("held", lambda pod: pod.status.conditions)
    own_pods.api.delete_namespaced_pod("leaving", "default")
    local_cluster.restart()
    own_pods.gone("leaving")
    local_cluster.faults.clear()
    own_pods.phase("held", "Succeeded")


def test_no_pod_is_run_twice_however_often_the_server_dies_while_starting_it(
    local_cluster: LocalCluster, own_pods: Any, tmp_path: Path
) -> None:
    program = "import os, sys, time; open(sys.argv[1] + '/' + str(os.getpid()), 'w').close(); time.sleep(0.5)"
    for number in range(6):
        runs = tmp_path / str(number)
        runs.mkdir()
        own_pods.create(f"once-{number}", ["python", "-c", program, str(runs)])
        time.sleep(0.01 * number)
        local_cluster.restart()
        assert own_pods.ended(f"once-{number}").exit_code == 0
        assert len(list(runs.iterdir())) == 1


def test_container_whose_shim_is_killed_is_not_left_running(local_cluster: LocalCluster, own_pods: Any) -> None:
    pod = own_pods.python("orphan", "import os, time; print(os.getpid()); time.sleep(900)")
    own_pods.phase("orphan", "Running")
    while not (lines := own_pods.log("orphan")):
        time.sleep(0.05)
    running = read_json(local_cluster.directory / "pods" / pod.metadata.uid / "containers" / "base" / "running.json")
    assert running is not None
    os.kill(running["shim"], signal.SIGKILL)
    ended = own_pods.ended("orphan")
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    assert not Path(f"/proc/{lines[0]}").exists() or "Z" in Path(f"/proc/{lines[0]}/stat").read_text()


def test_second_server_in_the_same_directory_is_refused(local_cluster: LocalCluster) -> None:
    before = local_cluster.kubeconfig.read_text()
    command = [sys.executable, "-m", "evergreen.localcluster", "--directory", str(local_cluster.directory)]
    intruder = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert intruder.returncode == 64
    assert "another server at work there" in intruder.stderr
    assert local_cluster.kubeconfig.read_text() == before
    assert local_cluster.pods() == []


def test_port_that_is_taken_ends_in_one_clear_sentence(local_cluster: LocalCluster, tmp_path: Path) -> None:
    port = read_kubeconfig(local_cluster.kubeconfig)[0].rpartition(":")[2]
    command = [sys.executable, "-m", "evergreen.localcluster", "--directory", str(tmp_path), "--port", port]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert refused.returncode == 75
    assert f"found port {port} in use, wanted a free port" in refused.stderr
    assert "Traceback" not in refused.stderr
