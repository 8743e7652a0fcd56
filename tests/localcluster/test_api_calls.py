from __future__ import annotations

import json
import stat
import urllib.error
import urllib.request
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException, CoreV1Api

from evergreen.localcluster.credentials import read_kubeconfig
from evergreen.localcluster.guard import LARGEST_BODY_BYTES
from evergreen.localcluster.server_process import LocalCluster
from kube_pods import Pods


def refusal_of(
    cluster: LocalCluster, path: str, authorization: str | None, body: bytes | None = None
) -> dict[str, Any]:
    url, _ = read_kubeconfig(cluster.kubeconfig)
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(url + path, headers=headers, data=body)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=240)  # noqa: S310
    with refusal.value as answer:
        status: dict[str, Any] = json.load(answer)
    assert answer.code == status["code"]
    return status


@pytest.mark.parametrize("path", ["/version", "/api/v1/namespaces/default/pods", "/evergreen/faults", "/nowhere"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic Zm9vOmJhcg==", "Bearer "])
def test_no_call_is_answered_without_the_token(cluster: LocalCluster, path: str, authorization: str | None) -> None:
    status = refusal_of(cluster, path, authorization)
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 401, "Unauthorized")


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


def test_watch_from_before_a_restart_is_told_to_list_again(local_cluster: LocalCluster, own_pods: Any) -> None:
    revision = own_pods.api.list_namespaced_pod("default").metadata.resource_version
    local_cluster.restart()
    assert int(own_pods.api.list_namespaced_pod("default").metadata.resource_version) > int(revision)
    stream = watch.Watch().stream(
        own_pods.api.list_namespaced_pod, "default", resource_version=revision, timeout_seconds=3
    )
    with pytest.raises(ApiException) as refusal:
        list(stream)
    assert refusal.value.status == 410


def test_namespaces_can_be_made_and_separate_their_pods(api: CoreV1Api) -> None:
    api.create_namespace({"metadata": {"name": "team"}})
    for namespace in ("team", "default"):
        Pods(api, namespace).python("same", "")
    assert {namespace.metadata.name for namespace in api.list_namespace().items} >= {"default", "team"}
    assert len(api.list_pod_for_all_namespaces(field_selector="metadata.name=same").items) == 2
    api.delete_namespaced_pod("same", "team", grace_period_seconds=0)


def test_what_is_not_supported_says_so(pods: Any, cluster: LocalCluster) -> None:
    pods.python("plain", "")
    _, token = read_kubeconfig(cluster.kubeconfig)
    for path in ("/api/v1/namespaces/default/pods/plain/exec", "/api/v1/namespaces/default/pods?dryRun=All"):
        assert refusal_of(cluster, path, f"Bearer {token}", b"{}")["code"] == 501


def test_version_and_discovery_answer(raw_client: client.ApiClient) -> None:
    assert client.VersionApi(raw_client).get_code().git_version.startswith("v1.")
    found = {resource.name for resource in CoreV1Api(raw_client).get_api_resources().resources}
    assert {"pods", "pods/log", "events", "secrets"} <= found
