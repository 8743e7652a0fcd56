"""The serving manifests on a real cluster, and rollouts of models to every replica there."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml
from kubernetes import client
from kubernetes.config import new_client_from_config

from evergreen.artifacts import Deployment, Model
from evergreen.deployment import serving_cluster
from evergreen.deployment.kubernetes_serving import KubernetesServing
from evergreen.deployment.replicas import replicas_of
from evergreen.errors import ConfigurationError, DataError, TemporaryError
from evergreen.lake.deployments import publish_deployment
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.training.model_files import store_model
from manifests import KUBERNETES, Manifest, kubectl, one, render
from namespaces import kubeconfig_of, namespace_for

pytestmark = pytest.mark.cluster
TOKEN = "a long random text for the test"
ROW = {
    "transaction_id": "t-1", "card_id": "c", "customer_id": "u", "merchant_id": "m", "amount_cents": 1999,
    "currency": "EUR", "mcc": "5411", "merchant_country": "DE", "card_country": "DE", "channel": "online",
    "event_time": "2026-11-10T12:00:00Z",
}  # fmt: skip
PATIENCE_SECONDS = 400.0
REPLY_SECONDS = 240.0
STALE_SECONDS = 2.0
"""How long a node's proxy, at worst, goes on sending requests to a replica that is being taken out."""


@dataclass
class Installation:
    """Serving as docker/kubernetes installs it, in a namespace of its own, on a lake of this machine."""

    namespace: str
    api: client.ApiClient
    lake: Lake
    worker: Path
    """Kubeconfig of an account with the rights of an Airflow worker, and no others."""
    folder: Path
    """The kustomization that was applied."""

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @property
    def apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.api)

    def confirm(self, deployment: Deployment, seconds: float = 300) -> None:
        KubernetesServing(namespace=self.namespace, kubeconfig=self.worker).confirm(deployment, seconds)

    def pods(self) -> list[client.V1Pod]:
        found = self.core.list_namespaced_pod(self.namespace).items
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    def endpoints(self) -> list[str]:
        """Addresses that the Service would send requests to now."""
        subsets = self.core.read_namespaced_endpoints("evergreen-serving", self.namespace).subsets or []
        return sorted(f"http://{address.ip}:8000" for subset in subsets for address in subset.addresses or [])

    def addresses(self) -> list[str]:
        """Addresses of all replicas, whether they take requests or not."""
        return sorted(f"http://{pod.status.pod_ip}:8000" for pod in self.pods())

    def versions(self, count: int = 2) -> list[str]:
        """What each of `count` replicas answers with, once all of them take requests."""
        self.await_replicas(count)
        return [httpx.get(f"{url}/v1/fraud", timeout=REPLY_SECONDS).json()["version"] for url in self.addresses()]

    def scale(self, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        self.apps.patch_namespaced_deployment_scale("evergreen-serving", self.namespace, body)

    def await_replicas(self, count: int) -> None:
        """Returns once there are `count` replicas and requests go to each of them, and nowhere else."""

        def all_serve() -> bool:
            found = self.endpoints()
            return len(found) == count and found == self.addresses()

        await_that(all_serve, f"{count} replicas", self.report)

    def report(self) -> str:
        pods = [(pod.metadata.name, pod.status.phase, pod.status.container_statuses) for pod in self.pods()]
        events = [event.message for event in self.core.list_namespaced_event(self.namespace).items]
        return f"{pods}\n{events[-10:]}"


def await_that(holds: Callable[[], bool], what: str, report: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}: {report()}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> client.ApiClient:
    """The real cluster, as its administrator."""
    return new_client_from_config(str(kubeconfig))


@pytest.fixture(scope="module")
def installation(api: client.ApiClient, kubeconfig: Path, serving_image: str) -> Iterator[Installation]:
    """Serving, applied with `kubectl apply -k`, two replicas running, no model yet."""
    kubectl()
    namespace = f"serving-{uuid.uuid4().hex[:8]}"
    folder = Path(tempfile.mkdtemp(prefix="evergreen-serving-"))  # not pytest's own: pods run as another user
    folder.chmod(0o755)
    (folder / "lake").mkdir()
    (folder / "lake").chmod(0o777)
    lake = Lake((folder / "lake").as_uri())
    core = client.CoreV1Api(api)
    write_kustomization(folder, namespace, serving_image)
    apply(kubeconfig, KUBERNETES / "base" / "cluster")
    core.create_namespace({"metadata": {"name": namespace}})
    core.create_namespaced_secret(
        namespace, {"metadata": {"name": "evergreen-serving"}, "stringData": {"token": TOKEN}}
    )
    try:
        apply(kubeconfig, folder)
        worker = kubeconfig_of(core, namespace, "airflow-worker", folder / "worker", kubeconfig)
        made = Installation(namespace=namespace, api=api, lake=lake, worker=worker, folder=folder)
        made.await_replicas(2)
        yield made
    finally:
        core.delete_namespace(namespace)
        shutil.rmtree(folder, ignore_errors=True)  # its pods may still be writing their last predictions


def write_kustomization(folder: Path, namespace: str, image: str) -> None:
    """The test overlay in `namespace`, its lake this folder's, the rollout's rights for an account of the namespace."""
    name, _, tag = image.rpartition(":")
    lake = {"name": "lake", "hostPath": {"path": str(folder / "lake"), "type": "Directory"}}
    mount = {"name": "lake", "mountPath": "/lake"}
    patch: list[Manifest] = [
        {"op": "add", "path": "/spec/template/spec/volumes/-", "value": lake},
        {"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts/-", "value": mount},
        {
            "op": "add",
            "path": "/spec/template/spec/containers/0/env/-",
            "value": {"name": "EVERGREEN_LAKE_URL", "value": "file:///lake"},
        },
    ]
    account = [{"op": "replace", "path": "/subjects/0/namespace", "value": namespace}]
    up = "/".join([".."] * (len(folder.resolve().parts) - 1))
    body = {
        "namespace": namespace,
        "resources": [f"{up}{KUBERNETES}/overlays/test/serving"],
        "images": [{"name": "evergreen-serving", "newName": name, "newTag": tag}],
        "patches": [
            {"target": {"kind": "Deployment"}, "patch": json.dumps(patch)},
            {"target": {"kind": "RoleBinding"}, "patch": json.dumps(account)},
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))


def apply(kubeconfig: Path, folder: Path) -> None:
    command = [kubectl(), "--kubeconfig", str(kubeconfig), "apply", "-k", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def publish(
    installation: Installation, make_model: Callable[..., Model], fraud: Pipeline
) -> Callable[[int], Deployment]:
    """Makes a real model of the given day and publishes it."""

    def make(day: int) -> Deployment:
        at = datetime(2026, 11, day, tzinfo=UTC)
        return published(installation.lake, make_model(installation.lake, fraud, slope=1 + day / 10, as_of=at))

    return make


def published(lake: Lake, model: Model) -> Deployment:
    deployment = Deployment(
        pipeline="fraud",
        sequence=int(time.time()),
        at=datetime.now(UTC),
        from_version=None,
        to_version=model.version,
        model_uri=model.uri,
        model_digest=model.digest,
        actor="tester",
        reason="a test",
    )
    publish_deployment(lake, deployment)
    return deployment


def test_everything_is_accepted_and_two_replicas_wait_for_a_model(installation: Installation) -> None:
    network = client.NetworkingV1Api(installation.api).list_namespaced_network_policy(installation.namespace).items
    assert sorted(policy.metadata.name for policy in network) == ["evergreen-serving", "nothing-else"]
    assert len(installation.pods()) == 2
    assert installation.versions() == [None, None]


def test_replicas_run_with_least_rights(installation: Installation) -> None:
    for pod in installation.pods():
        assert not any("token" in mount.name for mount in pod.spec.containers[0].volume_mounts)
        assert pod.spec.containers[0].security_context.read_only_root_filesystem
        assert pod.spec.priority == 100000


def test_every_replica_takes_up_each_new_version(
    installation: Installation, publish: Callable[[int], Deployment], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for day in (2, 3):
        deployment = publish(day)
        installation.confirm(deployment)
        assert installation.versions() == [deployment.to_version] * 2
    assert f"2 of 2 replicas answer with {deployment.to_version}" in caplog.text


def test_predictions_need_the_token_which_the_api_servers_proxy_keeps_for_itself(
    installation: Installation, publish: Callable[[int], Deployment]
) -> None:
    deployment = publish(4)
    installation.confirm(deployment)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    installation.await_replicas(2)
    (url, *_), (pod, *_) = installation.addresses(), installation.pods()
    with httpx.Client(base_url=url, timeout=REPLY_SECONDS) as asking:
        assert asking.post("/v1/fraud/predict", json=ROW).status_code == 401
        answer = asking.post("/v1/fraud/predict", json=ROW, headers=bearer)
    assert answer.json()["version"] == deployment.to_version
    with pytest.raises(client.ApiException) as refusal:
        installation.core.connect_post_namespaced_pod_proxy_with_path(
            f"{pod.metadata.name}:8000", installation.namespace, "v1/fraud/predict"
        )
    assert refusal.value.status == 401
    assert "EVERGREEN_SERVING_TOKEN" in refusal.value.body


def test_a_replica_that_comes_in_the_middle_answers_with_the_new_version(
    installation: Installation, publish: Callable[[int], Deployment]
) -> None:
    installation.scale(3)
    await_that(lambda: len(installation.pods()) == 3, "a third pod")
    deployment = publish(5)
    installation.confirm(deployment)
    assert installation.versions(3) == [deployment.to_version] * 3
    installation.scale(2)
    installation.await_replicas(2)


def test_a_replica_killed_in_the_middle_is_replaced_and_confirmed(
    installation: Installation, publish: Callable[[int], Deployment]
) -> None:
    victim = installation.pods()[0].metadata.name
    kill = client.CoreV1Api(installation.api).delete_namespaced_pod
    killing = threading.Thread(target=kill, args=(victim, installation.namespace), kwargs={"grace_period_seconds": 0})
    deployment = publish(6)
    killing.start()
    installation.confirm(deployment)
    killing.join()
    assert victim not in {pod.metadata.name for pod in installation.pods()}
    assert installation.versions() == [deployment.to_version] * 2


def test_a_refused_model_is_said_at_once_and_takes_no_replica_out(
    installation: Installation, publish: Callable[[int], Deployment]
) -> None:
    good = publish(7)
    installation.confirm(good)
    bad = published(installation.lake, unservable(installation.lake, good))
    with pytest.raises(DataError, match="unheard_of"):
        installation.confirm(bad)
    time.sleep(12)  # longer than a readiness probe would need to take a replica out
    assert installation.versions() == [good.to_version] * 2
    publish_deployment(installation.lake, good)
    installation.confirm(good)


def unservable(lake: Lake, like: Deployment) -> Model:
    """A model that wants a feature nobody computes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signature = json.loads(lake.objects.get(f"{like.model_uri}/signature.json"))
        signature["numeric"][0] = "unheard_of"
        (folder / "signature.json").write_text(json.dumps(signature))
        (folder / "model.onnx").write_bytes(lake.objects.get(f"{like.model_uri}/model.onnx"))
        as_of = datetime(2026, 11, 9, tzinfo=UTC)
        return store_model(lake, folder, pipeline="fraud", as_of=as_of, training_set="0" * 64, seed=7)


def test_replacing_every_replica_loses_no_request(
    installation: Installation, publish: Callable[[int], Deployment]
) -> None:
    deployment = publish(8)
    installation.confirm(deployment)
    before = {pod.metadata.uid for pod in installation.pods()}
    annotation = {"evergreen/restarted": datetime.now(UTC).isoformat()}
    body = {"spec": {"template": {"metadata": {"annotations": annotation}}}}
    installation.apps.patch_namespaced_deployment("evergreen-serving", installation.namespace, body)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    answered, known, known_at = 0, [], 0.0

    def replaced() -> bool:
        nonlocal answered, known, known_at
        if time.monotonic() > known_at + STALE_SECONDS:
            known_at, known = time.monotonic(), installation.endpoints()
        try:
            for url in known:
                answer = httpx.post(f"{url}/v1/fraud/predict", json=ROW, headers=bearer, timeout=REPLY_SECONDS)
                assert answer.json()["version"] == deployment.to_version
                answered += 1
        except httpx.TransportError:
            if time.monotonic() <= known_at + STALE_SECONDS:
                raise
            return False  # this machine stalled, and what it knew is older than a node's proxy would let it be
        now = {pod.metadata.uid for pod in installation.pods()}
        return len(known) == 2 and not before & now and answered > 10

    await_that(replaced, "new replicas and some answers", installation.report)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that is late is waited for, as the last look of a `confirm` is what a test reads."""
    monkeypatch.setattr(serving_cluster, "TIMEOUT", (REPLY_SECONDS, REPLY_SECONDS))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "evergreen-serving:no-such-tag"}, "(ErrImagePull|ImagePullBackOff).*Push that image"),
        ({"command": ["python", "-c", "raise SystemExit('no lake')"]}, "exit code 1.*kubectl -n"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}}]}, "absent.*Create the"),
        ({"resources": {"requests": {"cpu": "500"}}}, "Unschedulable.*Add or free a node"),
    ],
    ids=["image", "crash", "secret", "room"],
)
def test_a_deployment_without_a_working_replica_says_why(
    api: client.ApiClient, kubeconfig: Path, installation: Installation, change: Manifest, words: str
) -> None:
    deployment = one(render(installation.folder), "Deployment", "evergreen-serving")
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"][0] = {k: pod["containers"][0][k] for k in ("name", "image", "command", "ports")} | change
    pod["volumes"], pod["serviceAccountName"] = [], "default"
    deployment["spec"]["replicas"] = 1
    with namespace_for(client.CoreV1Api(api), "serving") as namespace:
        client.AppsV1Api(api).create_namespaced_deployment(namespace, without_namespace(deployment))
        list_pods = client.CoreV1Api(api).list_namespaced_pod
        trouble = re.compile(words.split(".*")[0])
        await_that(lambda: any(trouble.search(r.trouble or "") for r in replicas_of(list_pods(namespace).items)), words)
        serving = KubernetesServing(namespace=namespace, kubeconfig=kubeconfig)
        with pytest.raises(TemporaryError, match=words):
            serving.confirm(a_deployment(), 1)


@pytest.mark.usefixtures("patient")
def test_a_quota_that_admits_no_pod_is_said(
    api: client.ApiClient, kubeconfig: Path, installation: Installation
) -> None:
    deployment = one(render(installation.folder), "Deployment", "evergreen-serving")
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "default"
    quota = {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}}
    core = client.CoreV1Api(api)
    with namespace_for(core, "serving") as namespace:
        core.create_namespaced_resource_quota(namespace, quota)
        await_that(lambda: has_quota_status(core, namespace), "the quota's status")
        apps = client.AppsV1Api(api)
        apps.create_namespaced_deployment(namespace, without_namespace(deployment))
        await_that(lambda: has_replica_failure(apps, namespace), "the deployment's condition")
        serving = KubernetesServing(namespace=namespace, kubeconfig=kubeconfig)
        with pytest.raises(TemporaryError, match="exceeded quota: nothing"):
            serving.confirm(a_deployment(), 3)


def test_a_namespace_without_serving_or_without_rights_is_refused_at_once(
    installation: Installation, kubeconfig: Path
) -> None:
    absent = KubernetesServing(namespace="no-such-namespace", kubeconfig=kubeconfig)
    with pytest.raises(ConfigurationError, match="no Deployment labelled"):
        absent.confirm(a_deployment(), 60)
    path = installation.folder / "stranger"
    stranger = kubeconfig_of(client.CoreV1Api(installation.api), installation.namespace, "stranger", path, kubeconfig)
    with pytest.raises(ConfigurationError, match=r"stranger\" cannot list.*Role evergreen-rollout"):
        KubernetesServing(namespace=installation.namespace, kubeconfig=stranger).confirm(a_deployment(), 60)
    stranger.write_text(stranger.read_text().replace("token: ", "token: not-"))
    with pytest.raises(ConfigurationError, match=r"status 401.*Renew"):
        KubernetesServing(namespace=installation.namespace, kubeconfig=stranger).confirm(a_deployment(), 60)


def test_training_pods_get_the_namespaces_limits_and_no_more(
    api: client.ApiClient, kubeconfig: Path, tmp_path: Path
) -> None:
    namespace = f"training-{uuid.uuid4().hex[:8]}"
    up = "/".join([".."] * (len(tmp_path.resolve().parts) - 1))
    body = {"namespace": namespace, "resources": [f"{up}{KUBERNETES}/overlays/test/training"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(body))
    core = client.CoreV1Api(api)
    try:
        apply(kubeconfig, tmp_path)
        await_that(lambda: has_quota_status(core, namespace), "the quota's status")
        small = core.create_namespaced_pod(namespace, training_pod("small", gpus=1))
        assert small.spec.containers[0].resources.limits["memory"] == "4Gi"
        with pytest.raises(client.ApiException, match=r"exceeded quota: evergreen-training.*nvidia\.com/gpu"):
            core.create_namespaced_pod(namespace, training_pod("second", gpus=1))
    finally:
        core.delete_namespace(namespace)


def has_quota_status(core: client.CoreV1Api, namespace: str) -> bool:
    return all(quota.status.used for quota in core.list_namespaced_resource_quota(namespace).items)


def has_replica_failure(apps: client.AppsV1Api, namespace: str) -> bool:
    found = apps.list_namespaced_deployment(namespace).items
    return any(c.type == "ReplicaFailure" for deployment in found for c in deployment.status.conditions or ())


def training_pod(name: str, *, gpus: int) -> Manifest:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    container = {"name": "base", "image": "evergreen-trainer:0.1.0", "resources": resources}
    spec = {"serviceAccountName": "evergreen-trainer", "containers": [container], "restartPolicy": "Never"}
    return {"metadata": {"name": name}, "spec": spec}


def without_namespace(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
    return manifest | {"metadata": metadata}


def a_deployment() -> Deployment:
    return Deployment(
        pipeline="fraud", sequence=1, at=datetime.now(UTC), from_version=None, to_version="v7",
        model_uri="models/fraud/v7", model_digest="0" * 64, actor="tester", reason="a test",
    )  # fmt: skip
