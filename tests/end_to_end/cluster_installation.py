"""The parts of an installation that are on a cluster: pods' namespace, serving there, and the lake in a bucket."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api, V1Pod
from kubernetes.config import new_client_from_config
from minio import Minio

from forwarding import forwarding
from manifests import KUBERNETES, kubectl
from namespaces import kubeconfig_of, wait_for_token
from real_parts import S3Server

PROFILES = Path(__file__).with_name("cluster_profiles.yaml")
TOKEN = "a long random text for the test"
WORKER = "airflow-worker"
DEFERRED, WAITING = "gpu-deferred", "gpu-waiting"


@dataclass(frozen=True)
class Cluster:
    """What a test may look at on the cluster."""

    api: ApiClient
    training: str
    """Namespace of training pods."""
    serving: str
    """Namespace of the serving Deployment."""
    worker: Path
    """Kubeconfig with the rights that docker/kubernetes gives Airflow's workers, and no others."""

    def pods(self, namespace: str) -> list[V1Pod]:
        found = CoreV1Api(self.api).list_namespaced_pod(namespace).items
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    def replicas(self) -> list[str]:
        """Base URL of every serving pod that is ready."""
        ready = [
            pod
            for pod in self.pods(self.serving)
            if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
        ]
        return sorted(f"http://{pod.status.pod_ip}:8000" for pod in ready)

    def replicas_wanted(self) -> int:
        return int(AppsV1Api(self.api).read_namespaced_deployment("evergreen-serving", self.serving).spec.replicas)


@contextmanager
def lake_in_bucket(s3: S3Server, node: str) -> Iterator[dict[str, str]]:
    """Variables of a lake in a new bucket, under an address that pods reach as well."""
    port = urlsplit(s3.endpoint).port
    assert port is not None
    bucket = f"loop-{uuid.uuid4().hex[:8]}"
    keys = {"access_key": s3.options["AWS_ACCESS_KEY_ID"], "secret_key": s3.options["AWS_SECRET_ACCESS_KEY"]}
    Minio(f"127.0.0.1:{port}", **keys, secure=False).make_bucket(bucket)
    with forwarding(node, port) as forwarded:
        address = {"AWS_ENDPOINT_URL": f"http://{node}:{forwarded}", "EVERGREEN_LAKE_URL": f"s3://{bucket}/lake"}
        yield {**s3.options, **address}


@contextmanager
def cluster_parts(
    kubeconfig: Path, specs: Path, folder: Path, lake: Mapping[str, str], serving_image: str
) -> Iterator[Cluster]:
    """The namespaces of docker/kubernetes, applied from `folder` under names of their own."""
    name = uuid.uuid4().hex[:8]
    api, worker = new_client_from_config(str(kubeconfig)), folder / "worker"
    made = Cluster(api, f"training-{name}", f"serving-{name}", worker)
    core = CoreV1Api(made.api)
    secret = {"metadata": {"name": "evergreen-lake"}, "stringData": _keys(lake)}
    token = {"metadata": {"name": "evergreen-serving"}, "stringData": {"token": TOKEN}}
    try:
        for namespace in (made.training, made.serving):
            core.create_namespace({"metadata": {"name": namespace}})
            wait_for_token(core, namespace)
            core.create_namespaced_secret(namespace, secret)
        core.create_namespaced_secret(made.serving, token)
        folder.mkdir()
        kubeconfig_of(core, made.training, WORKER, worker, kubeconfig)
        _apply(kubeconfig, KUBERNETES / "base" / "cluster")
        _apply(kubeconfig, _training(folder / "training", made.training))
        _apply(kubeconfig, _serving(folder / "serving", made, specs, lake["EVERGREEN_LAKE_URL"], serving_image))
        yield made
    finally:
        for namespace in (made.training, made.serving):
            core.delete_namespace(namespace)


def _keys(lake: Mapping[str, str]) -> dict[str, str]:
    return {variable: value for variable, value in lake.items() if variable.startswith("AWS_")}


def _training(folder: Path, namespace: str) -> Path:
    body = {"namespace": namespace, "resources": [_overlay(folder, "training")], "patches": [_worker_of(namespace)]}
    return _kustomization(folder, body)


def _serving(folder: Path, cluster: Cluster, specs: Path, lake_url: str, image: str) -> Path:
    name, _, tag = image.rpartition(":")
    folder.mkdir(parents=True)
    files = sorted(path.name for path in specs.glob("*.yaml") if path.stem != "broken")
    for file in files:
        (folder / file).write_text((specs / file).read_text())
    there = {"namespace": "evergreen-serving"}
    literal = f"EVERGREEN_LAKE_URL={lake_url}"
    generators = [
        {"name": "evergreen-pipelines", "behavior": "replace", "files": files} | there,
        {"name": "evergreen-serving", "behavior": "merge", "literals": [literal]} | there,
    ]
    body = {
        "namespace": cluster.serving,
        "resources": [_overlay(folder, "serving")],
        "images": [{"name": "evergreen-serving", "newName": name, "newTag": tag}],
        "configMapGenerator": generators,
        "patches": [_worker_of(cluster.training)],
    }
    return _kustomization(folder, body)


def _worker_of(namespace: str) -> dict[str, object]:
    """Binds the roles to the workers' account of `namespace`, where a user's installation has one of Airflow's."""
    subjects = [{"kind": "ServiceAccount", "name": WORKER, "namespace": namespace}]
    patch = [{"op": "replace", "path": "/subjects", "value": subjects}]
    return {"target": {"kind": "RoleBinding"}, "patch": json.dumps(patch)}


def _kustomization(folder: Path, body: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(dict(body)))
    return folder


def _overlay(folder: Path, part: str) -> str:
    """Path of a test overlay as seen from `folder`; kustomize takes no absolute ones."""
    up = "/".join([".."] * (len(folder.resolve().parts) - 1))
    return f"{up}{KUBERNETES}/overlays/test/{part}"


def _apply(kubeconfig: Path, folder: Path) -> None:
    command = [kubectl(), "--kubeconfig", str(kubeconfig), "apply", "-k", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
