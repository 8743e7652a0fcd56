"""Lists, selectors, watches and patches."""

from __future__ import annotations

import threading
from typing import Any

from kubernetes import watch
from kubernetes.client import CoreV1Api

from kube_pods import IMAGE, NOT_HEARD_YET, Pods


def names_of(items: Any) -> set[str]:
    return {item.metadata.name for item in items}


def test_generated_names_differ(api: CoreV1Api, namespace: str) -> None:
    container = {"name": "base", "image": IMAGE, "command": ["python", "-c", ""]}
    spec = {"restartPolicy": "Never", "containers": [container], "nodeSelector": {"pool": "none"}}
    body = {"metadata": {"generateName": "gen-"}, "spec": spec}
    names = {api.create_namespaced_pod(namespace, body).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("gen-") for name in names)


def test_labels_select_as_the_operator_asks(pods: Pods, api: CoreV1Api) -> None:
    nowhere = {"nodeSelector": {"pool": "none"}}
    pods.python("one", "", labels={"dag_id": "train", "run_id": "r1"}, **nowhere)
    pods.python("two", "", labels={"dag_id": "train", "run_id": "r2", "already_checked": "True"}, **nowhere)
    pods.python("three", "", labels={"dag_id": "other", "airflow-worker": "1"}, **nowhere)

    def found(selector: str) -> set[str]:
        return names_of(api.list_namespaced_pod(pods.namespace, label_selector=selector).items)

    assert found("dag_id=train,already_checked!=True,!airflow-worker") == {"one"}
    assert found("dag_id in (train, other)") == {"one", "two", "three"}
    assert found("run_id notin (r1)") == {"two", "three"}
    assert found("already_checked") == {"two"}
    assert found("dag_id==other") == {"three"}


def test_fields_select(pods: Pods, api: CoreV1Api) -> None:
    pods.python("one", "")
    pods.phase("one", "Succeeded")
    chosen = f"status.phase=Succeeded,metadata.name=one,metadata.namespace={pods.namespace}"
    assert names_of(api.list_pod_for_all_namespaces(field_selector=chosen).items) == {"one"}
    assert api.list_namespaced_pod(pods.namespace, field_selector="status.phase!=Succeeded").items == []


def test_watch_tells_the_whole_life_of_a_pod_in_order(pods: Pods, api: CoreV1Api) -> None:
    revision = api.list_namespaced_pod(pods.namespace).metadata.resource_version
    pods.python("watched", "", labels={"app": "w"})
    pods.phase("watched", "Succeeded")
    pods.delete("watched", grace_period_seconds=0)
    watcher, seen = watch.Watch(), []
    options = {"label_selector": "app=w", "resource_version": revision, "timeout_seconds": 240}
    for event in watcher.stream(api.list_namespaced_pod, pods.namespace, **options):
        seen.append(event)
        if event["type"] == "DELETED":
            watcher.stop()
    types = [event["type"] for event in seen]
    assert (types[0], types[-1], set(types[1:-1])) == ("ADDED", "DELETED", {"MODIFIED"})
    phases = [event["object"].status.phase for event in seen]
    assert (phases[0], phases[-1]) == ("Pending", "Succeeded")
    revisions = [int(event["object"].metadata.resource_version) for event in seen]
    assert revisions == sorted(revisions)


def test_watch_delivers_at_once_and_ends_at_its_timeout(pods: Pods, api: CoreV1Api) -> None:
    threading.Timer(0.2, lambda: pods.python("sudden", "", nodeSelector={"pool": "none"})).start()
    stream = watch.Watch().stream(api.list_namespaced_pod, pods.namespace, timeout_seconds=240)
    assert next(stream)["object"].metadata.name == "sudden"
    ended = watch.Watch().stream(api.list_namespaced_pod, pods.namespace, timeout_seconds=3)
    assert {event["object"].metadata.name for event in ended} <= {"sudden"}


def test_object_that_leaves_the_selection_is_deleted_for_its_watcher(pods: Pods, api: CoreV1Api) -> None:
    pods.python("marked", "", labels={"app": "w"}, nodeSelector={"pool": "none"})
    pods.wait("marked", lambda pod: pod.status.conditions)
    revision = api.list_namespaced_pod(pods.namespace).metadata.resource_version
    api.patch_namespaced_pod("marked", pods.namespace, {"metadata": {"labels": {"checked": "True"}}})
    options = {"label_selector": "checked!=True", "resource_version": revision, "timeout_seconds": 240}
    event = next(watch.Watch().stream(api.list_namespaced_pod, pods.namespace, **options))
    assert (event["type"], event["object"].metadata.name) == ("DELETED", "marked")


def test_events_of_a_pod_can_be_watched(pods: Pods, api: CoreV1Api) -> None:
    pods.python("reported", "")
    pods.events("reported", until="Started")
    options = {"field_selector": "involvedObject.name=reported", "timeout_seconds": 240}
    wanted, seen = {"Scheduled", "Pulled", "Created", "Started"}, set()
    for event in watch.Watch().stream(api.list_namespaced_event, pods.namespace, **options):
        if not NOT_HEARD_YET.search(event["object"].message or ""):
            seen.add(event["object"].reason)
        if seen >= wanted:
            break
    assert seen == wanted


def test_patches_change_labels(pods: Pods, api: CoreV1Api) -> None:
    labels = {"keep": "1", "drop": "1"}
    pods.python("patched", "", labels=labels, nodeSelector={"pool": "none"})
    merge = {"metadata": {"labels": {"already_checked": "True", "drop": None}}}
    changed = api.patch_namespaced_pod("patched", pods.namespace, merge)
    assert changed.metadata.labels == {"keep": "1", "already_checked": "True"}
    operations = [
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/keep"},
    ]
    changed = api.patch_namespaced_pod("patched", pods.namespace, operations)
    assert changed.metadata.labels == {"already_checked": "True", "a/b": "2"}


def test_new_pod_is_shown_with_what_was_left_out(pods: Pods) -> None:
    resources = {"limits": {"memory": "64Mi"}}
    pod = pods.python("plain", "", container={"resources": resources}, nodeSelector={"pool": "none"})
    (container,) = pod.spec.containers
    assert container.resources.requests == {"memory": "64Mi"}
    assert (container.termination_message_path, container.termination_message_policy) == (
        "/dev/termination-log", "File"
    )  # fmt: skip
    assert container.image_pull_policy == "IfNotPresent"
    assert (pod.spec.scheduler_name, pod.spec.service_account_name) == ("default-scheduler", "default")
    assert pod.spec.termination_grace_period_seconds == 30
    tolerated = {(item.key, item.operator, item.effect, item.toleration_seconds) for item in pod.spec.tolerations}
    assert tolerated == {
        (f"node.kubernetes.io/{taint}", "Exists", "NoExecute", 300) for taint in ("not-ready", "unreachable")
    }
    assert (pod.status.phase, pod.status.qos_class) == ("Pending", "Burstable")
