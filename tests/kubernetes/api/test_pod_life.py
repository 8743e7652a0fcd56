"""A pod's life as its status and events tell it: phases, conditions, states, reasons and messages."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import CoreV1Api

from kube_pods import IMAGE, ClusterUnderTest, Pods

FOREVER = "import time; time.sleep(900)"


def conditions_of(pod: Any) -> list[tuple[str, str, str | None]]:
    return [(item.type, item.status, item.reason) for item in pod.status.conditions]


def test_pod_that_exits_0_succeeds_and_tells_its_story(pods: Pods) -> None:
    pods.python("good", "print('hello')")
    pod = pods.phase("good", "Succeeded", "Failed")
    (status,) = pod.status.container_statuses
    ended = status.state.terminated
    assert (pod.status.phase, ended.exit_code, ended.reason, ended.message) == ("Succeeded", 0, "Completed", None)
    assert pod.status.start_time <= ended.started_at <= ended.finished_at
    assert ended.container_id == status.container_id
    assert (status.ready, status.restart_count, status.started) == (False, 0, False)
    assert conditions_of(pod) == [
        ("Initialized", "True", "PodCompleted"),
        ("Ready", "False", "PodCompleted"),
        ("ContainersReady", "False", "PodCompleted"),
        ("PodScheduled", "True", None),
    ]
    assert pod.status.pod_ip
    pods.events("good", until="Scheduled")  # the scheduler may tell of it after the kubelet has told of the rest
    told = pods.events("good", until="Started")
    assert [reason for reason, _ in told if reason != "Scheduled"] == ["Pulled", "Created", "Started"]
    assert dict(told)["Scheduled"] == f"Successfully assigned {pods.namespace}/good to {pod.spec.node_name}"
    assert dict(told)["Started"] == "Started container base"


def test_events_carry_the_times_and_sources_of_who_tells_them(pods: Pods) -> None:
    pods.python("told", "")
    pods.events("told", until="Scheduled")
    pods.events("told", until="Started")
    events = {event.reason: event for event in pods.event_objects("told")}
    scheduled, started = events["Scheduled"], events["Started"]
    # The scheduler writes events in the newer form, the kubelet in the older one.
    assert (scheduled.first_timestamp, scheduled.last_timestamp, scheduled.count) == (None, None, None)
    assert scheduled.event_time is not None
    assert (scheduled.reporting_component, scheduled.action) == ("default-scheduler", "Binding")
    assert (started.event_time, started.count, started.type) == (None, 1, "Normal")
    assert started.first_timestamp <= started.last_timestamp
    assert started.source.component == "kubelet"
    assert started.source.host == pods.read("told").spec.node_name
    assert started.involved_object.field_path == "spec.containers{base}"


def test_exit_code_crosses_the_pod_boundary(pods: Pods) -> None:
    pods.python("bad", "raise SystemExit(65)")
    ended = pods.ended("bad")
    assert (ended.exit_code, ended.reason) == (65, "Error")
    assert pods.read("bad").status.phase == "Failed"


def test_command_that_does_not_exist_is_a_start_error(pods: Pods) -> None:
    pods.create("absent", ["/no/such/program"])
    pods.create("unknown", ["frog"])
    ended = pods.ended("absent")
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    runc = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed:"
    )
    assert ended.message == (
        f'{runc} unable to start container process: exec: "/no/such/program": '
        "stat /no/such/program: no such file or directory: unknown"
    )
    assert pods.ended("unknown").message.endswith('exec: "frog": executable file not found in $PATH: unknown')
    told = [event for event in pods.events("absent", until="Failed") if event[0] != "Scheduled"]
    assert [reason for reason, _ in told] == ["Pulled", "Created", "Failed"]
    assert told[-1][1] == f"Error: {ended.message}"


def test_running_pod_is_ready_and_says_since_when(pods: Pods) -> None:
    pods.python("running", "import time; time.sleep(900)")
    pod = pods.wait("running", lambda p: p.status.container_statuses and p.status.container_statuses[0].ready)
    assert pod.status.phase == "Running"
    assert conditions_of(pod) == [
        ("Initialized", "True", None),
        ("Ready", "True", None),
        ("ContainersReady", "True", None),
        ("PodScheduled", "True", None),
    ]
    (status,) = pod.status.container_statuses
    assert status.state.running.started_at >= pod.status.start_time
    assert (status.started, status.state.waiting, status.state.terminated) == (True, None, None)


def test_init_containers_run_first_one_after_the_other(pods: Pods, cluster: ClusterUnderTest) -> None:
    variable = {"name": "SHARED", "value": "/shared"}
    step = "import os, time; time.sleep(0.2); open(os.environ['SHARED'] + '/order', 'a').write('{}')"
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}], "env": [variable]}
    init = [
        {"name": name, "image": "python:3.11-slim", "command": ["python", "-c", step.format(name)], **mount}
        for name in ("one", "two")
    ]
    pods.python(
        "ordered",
        "import os; print(open(os.environ['SHARED'] + '/order').read())",
        initContainers=init,
        volumes=[{"name": "shared", "emptyDir": {}}],
        container=mount,
    )
    pod = pods.phase("ordered", "Succeeded", "Failed")
    assert pods.log("ordered", container="base") == ["onetwo"]
    statuses = pod.status.init_container_statuses
    assert [(s.name, s.ready, s.state.terminated.reason) for s in statuses] == [
        ("one", True, "Completed"),
        ("two", True, "Completed"),
    ]
    pods.events("ordered", until="Started")
    paths = {event.involved_object.field_path for event in pods.event_objects("ordered")}
    assert "spec.initContainers{one}" in paths


def test_failed_init_container_fails_the_pod_before_its_containers_start(pods: Pods) -> None:
    command = ["python", "-c", "raise SystemExit(3)"]
    init = [{"name": "first", "image": "python:3.11-slim", "command": command}]
    pods.python("uninitialised", "print('never')", initContainers=init)
    pod = pods.phase("uninitialised", "Failed")
    assert pod.status.init_container_statuses[0].state.terminated.exit_code == 3
    assert pod.status.container_statuses[0].state.waiting.reason == "PodInitializing"
    initialized = pod.status.conditions[0]
    assert (initialized.status, initialized.reason) == ("False", "ContainersNotInitialized")
    assert initialized.message == "containers with incomplete status: [first]"


def test_two_containers_run_side_by_side_and_both_must_succeed(pods: Pods) -> None:
    def container(name: str, program: str) -> dict[str, Any]:
        return {"name": name, "image": "python:3.11-slim", "command": ["python", "-c", program]}

    pods.create(
        "pair", [], containers=[container("base", "import time; time.sleep(0.3)"), container("other", "exit(2)")]
    )
    pod = pods.phase("pair", "Succeeded", "Failed")
    assert pod.status.phase == "Failed"
    codes = {item.name: item.state.terminated.exit_code for item in pod.status.container_statuses}
    assert codes == {"base": 0, "other": 2}


def test_command_line_and_environment_are_expanded(pods: Pods) -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2"},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    args = ["--day", "$(A)", "$$(A)", "$(UNKNOWN)"]
    program = "import os, sys; print(*sys.argv[1:], os.environ['B'], os.environ['ME'])"
    pods.python("expanded", program, container={"args": args, "env": env})
    pods.phase("expanded", "Succeeded")
    assert pods.log("expanded") == ["--day 1 $(A) $(UNKNOWN) 12 expanded"]


def test_secrets_and_config_maps_reach_the_container(pods: Pods, api: CoreV1Api) -> None:
    secret = {"metadata": {"name": "login"}, "stringData": {"PASSWORD": "s3cret"}}
    assert api.create_namespaced_secret(pods.namespace, secret).type == "Opaque"
    options = {"metadata": {"name": "options"}, "data": {"DEPTH": "3"}}
    api.create_namespaced_config_map(pods.namespace, options)
    pods.python(
        "configured",
        "import os; e = os.environ; print(e['PASSWORD'], e['X_DEPTH'], e['ONE'], open(e['FILE']).read())",
        volumes=[{"name": "files", "secret": {"secretName": "login"}}],
        container={
            "env": [
                {"name": "ONE", "valueFrom": {"secretKeyRef": {"name": "login", "key": "PASSWORD"}}},
                {"name": "FILE", "value": "/files/PASSWORD"},
            ],
            "envFrom": [
                {"secretRef": {"name": "login"}},
                {"configMapRef": {"name": "options"}, "prefix": "X_"},
                {"secretRef": {"name": "absent", "optional": True}},
            ],
            "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        },
    )
    pods.phase("configured", "Succeeded", "Failed")
    assert pods.log("configured") == ["s3cret 3 s3cret s3cret"]
    api.delete_namespaced_secret("login", pods.namespace)
    api.delete_namespaced_config_map("options", pods.namespace)


def test_pod_waits_for_a_secret_that_is_not_there_yet(pods: Pods, api: CoreV1Api) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    pods.python("mounted", "", volumes=[{"name": "v", "secret": {"secretName": "late"}}], container=mount)
    pods.python(
        "waiting", "import os; print(os.environ['KEY'])", container={"envFrom": [{"secretRef": {"name": "late"}}]}
    )
    assert pods.waiting("waiting", "CreateContainerConfigError").message == 'secret "late" not found'
    told = [event for event in pods.events("waiting", until="Failed") if event[0] in ("Pulled", "Failed")]
    assert ("Failed", 'Error: secret "late" not found') in told
    assert "Pulled" in dict(told)
    absent = ("FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "late" not found')
    assert absent in pods.events("mounted", until="FailedMount")
    assert pods.waiting("mounted", "ContainerCreating").message is None
    secret = {"metadata": {"name": "late"}, "stringData": {"KEY": "now"}}
    api.create_namespaced_secret(pods.namespace, secret)
    pods.phase("waiting", "Succeeded")
    assert pods.log("waiting") == ["now"]
    api.delete_namespaced_secret("late", pods.namespace)


def test_key_that_is_not_in_its_secret_is_named(pods: Pods, api: CoreV1Api) -> None:
    api.create_namespaced_secret(pods.namespace, {"metadata": {"name": "there"}, "stringData": {"A": "1"}})
    reference = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "there", "key": "absent"}}}
    pods.python("keyless", "", container={"env": [reference]})
    waiting = pods.waiting("keyless", "CreateContainerConfigError")
    assert waiting.message == f"couldn't find key absent in Secret {pods.namespace}/there"
    api.delete_namespaced_secret("there", pods.namespace)


def test_image_name_that_cannot_be_is_told(pods: Pods) -> None:
    pods.python("misnamed", "", container={"image": "Bad Image"})
    waiting = pods.waiting("misnamed", "InvalidImageName")
    assert waiting.message == (
        'Failed to apply default image tag "Bad Image": couldn\'t parse image reference "Bad Image": '
        "invalid reference format: repository name must be lowercase"
    )
    told = pods.events("misnamed", until="Failed")
    assert ("Failed", "Error: InvalidImageName") in told
    assert ("InspectFailed", waiting.message) in told


def test_file_that_a_container_writes_becomes_its_message(pods: Pods) -> None:
    path = {"name": "TOLD", "value": "/dev/termination-log"}
    write = "import os; open(os.environ['TOLD'], 'w').write({!r} * {}); {}"
    fallback = {"env": [path], "terminationMessagePolicy": "FallbackToLogsOnError"}
    pods.python("content", write.format("all done\n", 1, "pass"), container={"env": [path]})
    pods.python("wordy", write.format("x", 5000, "exit(3)"), container=fallback)
    # both to the same stream: those of two come in the order in which the runtime happens to read them
    pods.python("logged", "import os; os.write(2, b'first\\n'); raise SystemExit('out of cheese')", container=fallback)
    pods.python("silent", "print('first')", container=fallback)
    assert pods.ended("content").message == "all done\n"
    assert pods.ended("wordy").message == "x" * 4096
    assert pods.ended("logged").message == "first\nout of cheese\n"
    assert pods.ended("silent").message is None


def test_end_of_a_long_log_becomes_the_message_of_a_failure(pods: Pods) -> None:
    program = "[print(i, 'y' * 50) for i in range(200)]; exit(1)"
    pods.python("long", program, container={"terminationMessagePolicy": "FallbackToLogsOnError"})
    message = pods.ended("long").message
    assert len(message) == 2048
    assert message.endswith(f"199 {'y' * 50}\n")


def test_deadline_ends_the_pod_even_when_it_would_exit_0(pods: Pods) -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(900)"
    pods.python("endless", program, activeDeadlineSeconds=1)
    pod = pods.phase("endless", "Succeeded", "Failed")
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")
    assert pod.status.message == "Pod was active on the node longer than the specified deadline"
    assert dict(pods.events("endless", until="DeadlineExceeded"))["DeadlineExceeded"] == pod.status.message


@pytest.mark.parametrize(
    "options",
    [
        {"container": {"envFrom": [{"secretRef": {"name": "never"}}]}},
        {"container": {"envFrom": [{"configMapRef": {"name": "never"}}]}},
        {"container": {"image": "Bad Image"}},
        {"initContainers": [{"name": "first", "image": IMAGE, "command": ["python", "-c", FOREVER]}]},
    ],
    ids=["secret", "config map", "image", "init container"],
)
def test_deadline_counts_before_the_container_starts(
    pods: Pods, cluster: ClusterUnderTest, options: dict[str, Any]
) -> None:
    device = {"resources": {"limits": {cluster.device: "1"}}}
    container = device | options.get("container", {})
    limits = {"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1}
    pods.python("waiting", "print('never')", **{**options, **limits, "container": container})
    pod = pods.phase("waiting", "Succeeded", "Failed")
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")
    assert pod.status.message == "Pod was active on the node longer than the specified deadline"
    told = pods.events("waiting", until="DeadlineExceeded")
    assert ("DeadlineExceeded", pod.status.message) in told
    assert ("Started", "Started container base") not in told
    pods.python("next", "", container=device)
    pods.phase("next", "Succeeded")


def test_container_that_closes_its_output_still_reports_its_own_end(pods: Pods) -> None:
    pods.python("silent", "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)")
    assert pods.ended("silent").exit_code == 7
