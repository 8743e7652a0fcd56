from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

from kubernetes.client import CoreV1Api


def test_pod_that_exits_0_succeeds_and_tells_its_story(pods: Any) -> None:
    pods.python("good", "print('hello')")
    pod = pods.phase("good", "Succeeded", "Failed")
    ended = pod.status.container_statuses[0].state.terminated
    assert (pod.status.phase, ended.exit_code, ended.reason) == ("Succeeded", 0, "Completed")
    assert ended.started_at <= ended.finished_at
    assert pod.spec.node_name == "local-0"
    assert pod.status.pod_ip == "127.0.0.1"
    conditions = {item.type: item.status for item in pod.status.conditions}
    assert conditions == {
        "PodScheduled": "True",
        "Initialized": "True",
        "ContainersReady": "False",
        "Ready": "False",
    }
    assert [reason for reason, _ in pods.events("good")] == ["Scheduled", "Pulled", "Created", "Started"]


def test_exit_code_crosses_the_pod_boundary(pods: Any) -> None:
    pods.python("bad", "raise SystemExit(65)")
    ended = pods.ended("bad")
    assert (ended.exit_code, ended.reason) == (65, "Error")
    assert pods.read("bad").status.phase == "Failed"


def test_process_killed_by_a_signal_reports_128_plus_the_signal(pods: Any) -> None:
    pods.python("killed", "import os; os.kill(os.getpid(), 9)")
    assert pods.ended("killed").exit_code == 137


def test_command_that_does_not_exist_is_a_start_error(pods: Any) -> None:
    pods.create("absent", ["/no/such/program"])
    ended = pods.ended("absent")
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "/no/such/program" in ended.message


def test_shim_stays_light_so_that_a_pod_starts_fast() -> None:
    program = "import sys, evergreen.localcluster.shim; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "starlette", "uvicorn", "yaml", "asyncio", "numpy"} & set(loaded)


def test_init_containers_run_first_one_after_the_other(pods: Any) -> None:
    path = "os.environ['EVERGREEN_MOUNT_SHARED'] + '/order'"
    step = f"import os, time; time.sleep(0.2); open({path}, 'a').write('{{}}')"
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    init = [
        {"name": name, "image": "x", "command": ["python", "-c", step.format(name)], **mount} for name in ("one", "two")
    ]
    pods.python(
        "ordered",
        f"import os; print(open({path}).read())",
        initContainers=init,
        volumes=[{"name": "shared", "emptyDir": {}}],
        container=mount,
    )
    assert pods.phase("ordered", "Succeeded", "Failed").status.phase == "Succeeded"
    assert pods.log("ordered", container="base") == ["onetwo"]


def test_failed_init_container_fails_the_pod_before_its_containers_start(pods: Any) -> None:
    init = [{"name": "first", "image": "x", "command": ["python", "-c", "raise SystemExit(3)"]}]
    pods.python("uninitialised", "print('never')", initContainers=init)
    pod = pods.phase("uninitialised", "Failed")
    assert pod.status.init_container_statuses[0].state.terminated.exit_code == 3
    assert pod.status.container_statuses[0].state.waiting.reason == "PodInitializing"


def test_two_containers_run_side_by_side_and_both_must_succeed(pods: Any) -> None:
    other = {"name": "other", "image": "x", "command": ["python", "-c", "raise SystemExit(2)"]}
    base = {"name": "base", "image": "x", "command": ["python", "-c", "import time; time.sleep(0.3)"]}
    pods.create("pair", [], containers=[base, other])
    pod = pods.phase("pair", "Succeeded", "Failed")
    assert pod.status.phase == "Failed"
    codes = {item.name: item.state.terminated.exit_code for item in pod.status.container_statuses}
    assert codes == {"base": 0, "other": 2}


def test_container_sees_what_its_spec_says_and_nothing_else_of_ours(pods: Any) -> None:
    pods.python(
        "surroundings",
        "import os, sys, json; print(json.dumps([sorted(os.environ), sys.argv[1:], os.environ['B']]))",
        container={
            "args": ["--day", "$(A)", "$$(A)", "$(UNKNOWN)"],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)2"},
                {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
        },
    )
    pods.phase("surroundings", "Succeeded")
    names, arguments, b = json.loads(pods.log("surroundings")[0])
    ours = {"HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert set(names) - ours == {"A", "B", "ME", "PATH", "TMPDIR", "HOSTNAME", "EVERGREEN_POD_UID"}
    assert arguments == ["--day", "1", "$(A)", "$(UNKNOWN)"]
    assert b == "12"


def test_secrets_and_config_maps_reach_the_container(pods: Any, api: CoreV1Api) -> None:
    api.create_namespaced_secret("default", {"metadata": {"name": "login"}, "stringData": {"PASSWORD": "s3cret"}})
    api.create_namespaced_config_map("default", {"metadata": {"name": "options"}, "data": {"DEPTH": "3"}})
    pods.python(
        "configured",
        "import os; e = os.environ; "
        "print(e['PASSWORD'], e['X_DEPTH'], e['ONE'], open(e['EVERGREEN_MOUNT_FILES'] + '/PASSWORD').read())",
        volumes=[{"name": "files", "secret": {"secretName": "login"}}],
        container={
            "env": [{"name": "ONE", "valueFrom": {"secretKeyRef": {"name": "login", "key": "PASSWORD"}}}],
            "envFrom": [{"secretRef": {"name": "login"}}, {"configMapRef": {"name": "options"}, "prefix": "X_"}],
            "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        },
    )
    pods.phase("configured", "Succeeded")
    assert pods.log("configured") == ["s3cret 3 s3cret s3cret"]
    stored = api.read_namespaced_secret("login", "default").data["PASSWORD"]
    assert base64.b64decode(stored) == b"s3cret"
    api.delete_namespaced_secret("login", "default")
    api.delete_namespaced_config_map("options", "default")


def test_pod_waits_for_a_secret_that_is_not_there_yet(pods: Any, api: CoreV1Api) -> None:
    reference = [{"secretRef": {"name": "late"}}]
    pods.python("waiting", "import os; print(os.environ['KEY'])", container={"envFrom": reference})
    pod = pods.wait("waiting", lambda p: p.status.container_statuses is not None)
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting.reason == "CreateContainerConfigError"
    assert waiting.message == 'secret "late" not found'
    api.create_namespaced_secret("default", {"metadata": {"name": "late"}, "stringData": {"KEY": "now"}})
    pods.phase("waiting", "Succeeded")
    assert pods.log("waiting") == ["now"]
    assert [reason for reason, _ in pods.events("waiting")].count("Failed") == 1
    api.delete_namespaced_secret("late", "default")


def test_end_of_the_log_becomes_the_termination_message_where_asked(pods: Any) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods.python("telling", "print('first'); raise SystemExit('out of cheese')", container=policy)
    assert pods.ended("telling").message == "first\nout of cheese\n"


def test_deadline_ends_the_pod_even_when_it_would_exit_0(pods: Any) -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(30)"
    pods.python("endless", program, activeDeadlineSeconds=1)
    pod = pods.phase("endless", "Succeeded", "Failed")
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")
    assert "DeadlineExceeded" in dict(pods.events("endless"))


def test_container_that_closes_its_output_still_reports_its_own_end(pods: Any) -> None:
    pods.python("silent", "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)")
    assert pods.ended("silent").exit_code == 7


def test_variable_that_names_a_mounted_path_leads_to_the_volume(pods: Any) -> None:
    pods.python(
        "mounted",
        "import os, tempfile; e = os.environ; open(e['CACHE'], 'w').close(); "
        "print(tempfile.gettempdir() == e['EVERGREEN_MOUNT_SCRATCH'], os.listdir(e['HOME']), e['OTHER'])",
        volumes=[{"name": "scratch", "emptyDir": {}}],
        container={
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            "env": [
                {"name": "TMPDIR", "value": "/scratch"},
                {"name": "HOME", "value": "/scratch/"},
                {"name": "CACHE", "value": "$(TMPDIR)/cache"},
                {"name": "OTHER", "value": "/scratches"},
            ],
        },
    )
    pods.phase("mounted", "Succeeded")
    assert pods.log("mounted") == ["True ['cache'] /scratches"]
