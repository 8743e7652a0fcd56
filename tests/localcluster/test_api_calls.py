from __future__ import annotations

import json
import stat
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException, CoreV1Api

from evergreen.localcluster.credentials import read_kubeconfig
from evergreen.localcluster.guard import LARGEST_BODY_BYTES
from evergreen.localcluster.server_process import LocalCluster


def refusal_of(
    cluster: LocalCluster, path: str, authorization: str | None, body: bytes | None = None
) -> dict[str, Any]:
    url, _ = read_kubeconfig(cluster.kubeconfig)
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(url + path, headers=headers, data=body)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310
    with refusal.value as answer:
        status: dict[str, Any] = json.load(answer)
    assert answer.code == status["code"]
    return status


@pytest.mark.parametrize("path", ["/version", "/api/v1/namespaces/default/pods", "/evergreen/faults", "/nowhere"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic Zm9vOmJhcg==", "Bearer "])
def test_no_call_is_answered_without_the_token(cluster: LocalCluster, path: str, authorization: str | None) -> None:
    status = refusal_of(cluster, path, authorization)
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 401, "Unauthorized")


def test_client_with_a_wrong_token_gets_401(cluster: LocalCluster) -> None:
    url, _ = read_kubeconfig(cluster.kubeconfig)
    settings = client.Configuration(
        host=url, api_key={"authorization": "wrong"}, api_key_prefix={"authorization": "Bearer"}
    )
    with pytest.raises(ApiException) as refusal:
        CoreV1Api(client.ApiClient(settings)).list_namespaced_pod("default")
    assert refusal.value.status == 401


def test_secrets_of_the_cluster_are_readable_by_their_owner_only(cluster: LocalCluster) -> None:
    for name in ("kubeconfig", "token"):
        assert stat.S_IMODE((cluster.directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700


def test_body_over_the_limit_is_refused(cluster: LocalCluster) -> None:
    _, token = read_kubeconfig(cluster.kubeconfig)
    body = b"x" * (LARGEST_BODY_BYTES + 1)
    status = refusal_of(cluster, "/api/v1/namespaces/default/pods", f"Bearer {token}", body)
    assert (status["code"], status["reason"]) == (413, "RequestEntityTooLarge")


def test_body_that_is_not_json_is_refused(cluster: LocalCluster) -> None:
    _, token = read_kubeconfig(cluster.kubeconfig)
    status = refusal_of(cluster, "/api/v1/namespaces/default/pods", f"Bearer {token}", b"{")
    assert status["code"] == 400


def test_unknown_things_are_404(pods: Any, api: CoreV1Api) -> None:
    for call in (
        lambda: pods.read("absent"),
        lambda: pods.log("absent"),
        lambda: api.delete_namespaced_pod("absent", "default"),
        lambda: api.patch_namespaced_pod("absent", "default", {}),
        lambda: api.create_namespaced_pod("nowhere", pod_body("x")),
        lambda: client.AppsV1Api(api.api_client).list_namespaced_deployment("default"),
    ):
        with pytest.raises(ApiException) as refusal:
            call()
        assert refusal.value.status == 404
        assert json.loads(refusal.value.body)["reason"] == "NotFound"


def pod_body(name: str, /, **container: Any) -> dict[str, Any]:
    whole = {"name": "base", "image": "x", "command": ["python", "-c", ""], **container}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [whole]}}


def test_name_that_is_taken_is_409(pods: Any) -> None:
    pods.python("twin", "")
    with pytest.raises(ApiException) as refusal:
        pods.python("twin", "")
    assert refusal.value.status == 409
    assert json.loads(refusal.value.body)["reason"] == "AlreadyExists"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": {"name": "Not_A_Name"}}, "metadata.name"),
        ({"metadata": {"name": "x", "labels": {"a": "b c"}}}, "metadata.labels"),
        ({"spec": {"restartPolicy": "Never", "containers": []}}, "spec.containers"),
        ({"spec": {**pod_body("x")["spec"], "restartPolicy": "Always"}}, "spec.restartPolicy"),
        ({"spec": pod_body("x", command=[])["spec"]}, "spec.containers[0].command"),
        ({"spec": pod_body("x", name="Base")["spec"]}, "spec.containers[0].name"),
        ({"spec": pod_body("x", image="")["spec"]}, "spec.containers[0].image"),
        ({"spec": pod_body("x", resources={"limits": {"memory": "1GiB"}})["spec"]}, "spec.containers[0].resources"),
        ({"spec": {**pod_body("x")["spec"], "volumes": [{"name": "../up", "emptyDir": {}}]}}, "spec.volumes[0].name"),
        (
            {"spec": pod_body("x", resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})["spec"]},
            "spec.containers[0].resources.requests",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pod_that_kubernetes_would_refuse_is_refused(api: CoreV1Api, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiException) as refusal:
        api.create_namespaced_pod("default", {**pod_body("x"), **change})
    assert refusal.value.status == 422
    assert json.loads(refusal.value.body)["details"]["causes"][0]["field"] == field


def test_generated_names_differ(api: CoreV1Api) -> None:
    body = {**pod_body(""), "metadata": {"generateName": "gen-"}}
    names = {api.create_namespaced_pod("default", body).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("gen-") for name in names)


def test_labels_select_as_the_operator_asks(pods: Any, api: CoreV1Api) -> None:
    pods.python("one", "", labels={"dag_id": "train", "run_id": "r1"})
    pods.python("two", "", labels={"dag_id": "train", "run_id": "r2", "already_checked": "True"})
    pods.python("three", "", labels={"dag_id": "other", "airflow-worker": "1"})

    def found(selector: str) -> set[str]:
        return {pod.metadata.name for pod in api.list_namespaced_pod("default", label_selector=selector).items}

    assert found("dag_id=train,already_checked!=True,!airflow-worker") == {"one"}
    assert found("dag_id in (train, other)") == {"one", "two", "three"}
    assert found("run_id notin (r1)") == {"two", "three"}
    assert found("already_checked") == {"two"}
    assert found("dag_id==other") == {"three"}
    with pytest.raises(ApiException, match="400"):
        found("dag_id=(x")


def test_fields_select_and_unknown_ones_are_refused(pods: Any, api: CoreV1Api) -> None:
    pods.python("one", "")
    pods.phase("one", "Succeeded")
    found = api.list_pod_for_all_namespaces(field_selector="status.phase=Succeeded,metadata.name=one").items
    assert [pod.metadata.name for pod in found] == ["one"]
    assert api.list_namespaced_pod("default", field_selector="status.phase!=Succeeded").items == []
    with pytest.raises(ApiException, match="field label not supported"):
        api.list_namespaced_pod("default", field_selector="spec.colour=red")


def test_patches_change_labels_and_nothing_else(pods: Any, api: CoreV1Api) -> None:
    pods.python("patched", "import time; time.sleep(30)", labels={"keep": "1", "drop": "1"})
    pods.phase("patched", "Running")
    changed = api.patch_namespaced_pod(
        "patched", "default", {"metadata": {"labels": {"already_checked": "True", "drop": None}}}
    )
    assert changed.metadata.labels == {"keep": "1", "already_checked": "True"}
    operations = [
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/keep"},
    ]
    changed = api.patch_namespaced_pod("patched", "default", operations)
    assert changed.metadata.labels == {"already_checked": "True", "a/b": "2"}
    assert changed.status.phase == "Running"
    for patch, status in (
        ({"spec": {"containers": []}}, 422),
        ({"metadata": {"name": "other"}}, 422),
        ({"metadata": {"resourceVersion": "1"}}, 409),
        ([{"op": "remove", "path": "/metadata/labels/absent"}], 422),
    ):
        with pytest.raises(ApiException) as refusal:
            api.patch_namespaced_pod("patched", "default", patch)
        assert refusal.value.status == status


def test_delete_of_another_pod_than_meant_is_409(pods: Any, api: CoreV1Api) -> None:
    pods.python("mistaken", "")
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    with pytest.raises(ApiException) as refusal:
        api.delete_namespaced_pod("mistaken", "default", body=options)
    assert refusal.value.status == 409


def test_watch_tells_the_whole_life_of_a_pod_in_order(pods: Any, api: CoreV1Api) -> None:
    revision = api.list_namespaced_pod("default").metadata.resource_version
    pods.python("watched", "", labels={"app": "w"})
    pods.phase("watched", "Succeeded")
    api.delete_namespaced_pod("watched", "default")
    watcher, seen = watch.Watch(), []
    for event in watcher.stream(
        api.list_namespaced_pod, "default", label_selector="app=w", resource_version=revision, timeout_seconds=10
    ):
        seen.append(event)
        if event["type"] == "DELETED":
            watcher.stop()
    types = [event["type"] for event in seen]
    assert types[0] == "ADDED"
    assert types[-1] == "DELETED"
    assert set(types[1:-1]) == {"MODIFIED"}
    phases = [event["object"].status.phase for event in seen]
    assert phases[0] == "Pending"
    assert phases[-1] == "Succeeded"
    revisions = [int(event["object"].metadata.resource_version) for event in seen]
    assert revisions == sorted(set(revisions))


def test_watch_delivers_at_once_and_ends_at_its_timeout(pods: Any, api: CoreV1Api) -> None:
    threading.Timer(0.2, lambda: pods.python("sudden", "")).start()
    stream = watch.Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=1)
    assert next(stream)["object"].metadata.name == "sudden"
    assert {event["object"].metadata.name for event in stream} == {"sudden"}


def test_object_that_leaves_the_selection_is_deleted_for_its_watcher(pods: Any, api: CoreV1Api) -> None:
    pods.python("marked", "", labels={"app": "w"})
    pods.phase("marked", "Succeeded")
    revision = api.list_namespaced_pod("default").metadata.resource_version
    api.patch_namespaced_pod("marked", "default", {"metadata": {"labels": {"checked": "True"}}})
    seen = watch.Watch().stream(
        api.list_namespaced_pod, "default", label_selector="checked!=True", resource_version=revision, timeout_seconds=1
    )
    assert [(event["type"], event["object"].metadata.name) for event in seen] == [("DELETED", "marked")]


def test_watch_from_before_a_restart_is_told_to_list_again(local_cluster: LocalCluster, own_pods: Any) -> None:
    revision = own_pods.api.list_namespaced_pod("default").metadata.resource_version
    local_cluster.restart()
    assert int(own_pods.api.list_namespaced_pod("default").metadata.resource_version) > int(revision)
    stream = watch.Watch().stream(
        own_pods.api.list_namespaced_pod, "default", resource_version=revision, timeout_seconds=1
    )
    with pytest.raises(ApiException) as refusal:
        list(stream)
    assert refusal.value.status == 410


def test_events_of_a_pod_can_be_watched(pods: Any, api: CoreV1Api) -> None:
    pods.python("told", "")
    pods.phase("told", "Succeeded")
    seen = watch.Watch().stream(
        api.list_namespaced_event, "default", field_selector="involvedObject.name=told", timeout_seconds=1
    )
    assert [event["object"].reason for event in seen] == ["Scheduled", "Pulled", "Created", "Started"]


def test_namespaces_can_be_made_and_separate_their_pods(api: CoreV1Api) -> None:
    api.create_namespace({"metadata": {"name": "team"}})
    api.create_namespaced_pod("team", pod_body("same"))
    api.create_namespaced_pod("default", pod_body("same"))
    assert {namespace.metadata.name for namespace in api.list_namespace().items} >= {"default", "team"}
    assert len(api.list_pod_for_all_namespaces(field_selector="metadata.name=same").items) == 2
    api.delete_namespaced_pod("same", "team", grace_period_seconds=0)


def test_names_that_would_leave_their_directory_are_refused(api: CoreV1Api) -> None:
    for call in (
        lambda: api.create_namespace({"metadata": {"name": "../up"}}),
        lambda: api.create_namespaced_secret("default", {"metadata": {"name": "s"}, "stringData": {"../up": "x"}}),
        lambda: api.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"..": "x"}}),
    ):
        with pytest.raises(ApiException) as refusal:
            call()
        assert refusal.value.status == 422


def test_what_is_not_supported_says_so(pods: Any, cluster: LocalCluster) -> None:
    pods.python("plain", "")
    _, token = read_kubeconfig(cluster.kubeconfig)
    for path in ("/api/v1/namespaces/default/pods/plain/exec", "/api/v1/namespaces/default/pods?dryRun=All"):
        assert refusal_of(cluster, path, f"Bearer {token}", b"{}")["code"] == 501


def test_version_and_discovery_answer(raw_client: client.ApiClient) -> None:
    assert client.VersionApi(raw_client).get_code().git_version.startswith("v1.")
    found = {resource.name for resource in CoreV1Api(raw_client).get_api_resources().resources}
    assert {"pods", "pods/log", "events", "secrets"} <= found
