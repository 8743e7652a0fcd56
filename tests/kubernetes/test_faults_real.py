# ruff: noqa: F811 - fixtures are imported by name
"""What only a real cluster can do to a pod: drain it, refuse it, miss its image, lose its node."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from evergreen.orchestration.pod_diagnosis import Action, Cause
from faulty_runs import Faulty, Outcome, Place, faulty, real_place  # noqa: F401 - fixtures
from namespaces import namespace_for

pytestmark = [pytest.mark.airflow, pytest.mark.cluster]

REAL = {
    "drained": (Cause.DELETED, Action.RESUME, "by hand or to drain its node"),
    "drained-deferred": (Cause.DELETED, Action.RESUME, "by hand or to drain its node"),
    "hog-deferred": (Cause.OUT_OF_MEMORY, Action.HALVE, "needed more memory than its limit of 96Mi"),
    "absent-deferred": (Cause.NOT_OFFERED, Action.FAIL, "no node offers evergreen.test/gpu (asked for 1; 1 node"),
    "unpullable": (Cause.IMAGE, Action.FAIL, "the image nowhere.example/absent:1 cannot be pulled"),
    "unpullable-deferred": (Cause.IMAGE, Action.FAIL, "the image nowhere.example/absent:1 cannot be pulled"),
    "over-quota": (Cause.QUOTA, Action.RETRY, "The namespace's quota leaves no room for the pod"),
    "forbidden": (Cause.FORBIDDEN, Action.FAIL, 'cannot list resource "pods"'),
    "reader": (Cause.FORBIDDEN, Action.FAIL, 'cannot create resource "pods"'),
    "stranger": (Cause.UNAUTHORIZED, Action.FAIL, "expired or wrong"),
}
"""Step -> what the task makes of what was done to it."""


@pytest.fixture(scope="module")
def full_namespace(real_place: Place) -> Iterator[str]:
    """A namespace whose quota allows no pod."""
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    with namespace_for(real_place.api, "evergreen-full") as name:
        real_place.api.create_namespaced_resource_quota(name, quota)
        while not real_place.api.read_namespaced_resource_quota("none", name).status.hard:
            time.sleep(0.1)
        yield name


@pytest.fixture(scope="module")
def harmed(
    real_place: Place, full_namespace: str, faulty: Callable[..., Faulty], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """How tasks ended after all of it."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    absent = "nowhere.example/absent:1"
    deferred: list[dict[str, Any]] = [
        {"step": "drained-deferred", "program": "wait", "deferrable": True},
        {"step": "hog-deferred", "program": "hog", "deferrable": True},
        {"step": "absent-deferred", "program": "0", "profile": "absent", "deferrable": True},
        {"step": "unpullable-deferred", "program": "0", "image": absent, "deferrable": True},
    ]
    waiting: list[dict[str, Any]] = [
        {"step": "drained", "program": "wait"},
        {"step": "unpullable", "program": "0", "image": absent},
        {"step": "over-quota", "program": "0", "namespace": full_namespace},
        {"step": "forbidden", "program": "0", "config_file": _account(real_place, "nobody", [], folder)},
        {"step": "reader", "program": "0", "config_file": _account(real_place, "reader", ["list"], folder)},
        {"step": "stranger", "program": "0", "config_file": _kubeconfig(real_place, "expired", folder / "stranger")},
    ]
    runs = [faulty(real_place, scenarios) for scenarios in (waiting, deferred)]
    draining = [threading.Thread(target=_drain, args=(real_place, s)) for s in ("drained", "drained-deferred")]
    for thread in draining:
        thread.start()
    waited, was_deferred = (run.outcome() for run in runs)
    for thread in draining:
        thread.join()
    return waited | was_deferred


def _drain(place: Place, step: str) -> None:
    name = place.running(step).metadata.name
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}}
    place.api.create_namespaced_pod_eviction(name, place.namespace, eviction)


def _account(place: Place, name: str, verbs: list[str], folder: Path) -> str:
    """Kubeconfig of a service account that may do no more than `verbs` to pods."""
    place.api.create_namespaced_service_account(place.namespace, {"metadata": {"name": name}})
    secret = {
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": name}},
        "type": "kubernetes.io/service-account-token",
    }
    place.api.create_namespaced_secret(place.namespace, secret)
    while not (place.api.read_namespaced_secret(name, place.namespace).data or {}).get("token"):
        time.sleep(0.1)
    if verbs:
        _allow(place, name, verbs)
    token = place.api.read_namespaced_secret(name, place.namespace).data["token"]
    return _kubeconfig(place, base64.b64decode(token).decode(), folder / name)


def _allow(place: Place, name: str, verbs: list[str]) -> None:
    from kubernetes.client import RbacAuthorizationV1Api

    rbac = RbacAuthorizationV1Api(place.api.api_client)
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
    rbac.create_namespaced_role(place.namespace, {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
    }
    rbac.create_namespaced_role_binding(place.namespace, binding)


def _kubeconfig(place: Place, token: str, path: Path) -> str:
    config = yaml.safe_load(place.kubeconfig.read_text())
    config["users"] = [{**config["users"][0], "user": {"token": token}}]
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize("step", REAL)
def test_what_is_done_to_a_pod_is_understood_and_acted_upon(harmed: Outcome, step: str) -> None:
    cause, action, words = REAL[step]
    failures = harmed.failures[step]
    assert (failures[0].cause, failures[0].action) == (cause, action), failures
    assert words in failures[0].sentence
    expected = {Action.FAIL: ["failed", 1], Action.RETRY: ["failed", 4]}
    assert harmed.ends[step] == expected.get(action, ["success", 2])


def test_no_pod_outlives_its_task(harmed: Outcome, real_place: Place, full_namespace: str) -> None:
    assert set(harmed.ends) == set(REAL)
    assert [pod.metadata.name for pod in real_place.pods()] == []


def test_task_resumes_when_its_node_does_not_answer(
    real_place: Place, faulty: Callable[..., Faulty], tools: Path
) -> None:
    """The kubelet is killed; it comes back once the task has given the pod up."""
    run = faulty(real_place, [{"step": "stranded", "program": "wait"}])
    real_place.running("stranded")
    kubelets = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "kubelet"]
    assert len(kubelets) == 1
    os.kill(kubelets[0].pid, signal.SIGKILL)
    try:
        give_up_at = time.monotonic() + 400
        while not run.lake.objects.list("failures"):
            assert time.monotonic() < give_up_at, "the task did not notice that its node is away"
            time.sleep(0.5)
    finally:
        subprocess.run([str(tools / "kube-up"), str(real_place.kubeconfig)], check=True, capture_output=True)
    outcome = run.outcome()
    [failure] = outcome.failures["stranded"]
    assert (failure.cause, failure.action) == (Cause.NODE_LOST, Action.RESUME)
    assert "does not answer" in failure.sentence
    assert outcome.ends["stranded"] == ["success", 2]
    assert real_place.pods() == []
