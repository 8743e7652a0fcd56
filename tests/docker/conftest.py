"""Pods of our images on the real cluster, locked down as in production, with a lake from this machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_kube_config

from evergreen.lake.lake import Lake
from namespaces import namespace_for
from serving.conftest import config, in_process, logged, publish, transactions  # noqa: F401
from training.conftest import make_training_set, tiny  # noqa: F401

USER = 10001
START_SECONDS = 400.0
LOCKED_DOWN = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


class ImagePods:
    """Pods of images in one namespace: read-only, without rights, `/tmp` of their own, the lake at `/lake`."""

    def __init__(self, api: client.CoreV1Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def start(
        self,
        image: str,
        command: list[str] | None = None,
        *,
        lake: Lake | None = None,
        folders: Mapping[str, Path] = MappingProxyType({}),
        probe: list[str] | None = None,
        **environment: str,
    ) -> str:
        """Name of a new pod; without a command it runs what the image says. `folders`: mount path -> folder here.

        With `probe` it is Ready once that command succeeds in it.
        """
        name = f"pod-{uuid4().hex[:8]}"
        volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
        mounts = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
        if lake is not None:
            folders = {**folders, "/lake": hand_over(lake)}
            environment |= {"EVERGREEN_LAKE_URL": "file:///lake"}
        for number, (path, folder) in enumerate(folders.items()):
            volumes.append({"name": f"folder-{number}", "hostPath": {"path": str(folder)}})
            mounts.append({"name": f"folder-{number}", "mountPath": path})
        container: dict[str, Any] = {
            "name": "base",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": key, "value": value} for key, value in environment.items()],
            "volumeMounts": mounts,
            "securityContext": LOCKED_DOWN,
        }
        if command:
            container["command"] = command
        if probe:
            container["readinessProbe"] = {"exec": {"command": probe}, "timeoutSeconds": 60, "periodSeconds": 5}
        spec: dict[str, Any] = {"containers": [container], "volumes": volumes}
        spec |= {"restartPolicy": "Never", "dnsPolicy": "Default"}
        self.api.create_namespaced_pod(self.namespace, {"metadata": {"name": name}, "spec": spec})
        return name

    def run(self, image: str, command: list[str], **options: Any) -> str:
        """What the command printed; AssertionError when it ended badly. Options are those of `start`."""
        name = self.start(image, command, **options)
        pod = self.wait(name, "Succeeded", "Failed")
        log = self.log(name)
        assert pod.status.phase == "Succeeded", f"{pod.status.container_statuses}\n{log}"
        return log

    def wait(self, name: str, *phases: str) -> Any:
        """The pod, once it is in one of the phases."""
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            pod = self.api.read_namespaced_pod(name, self.namespace)
            if pod.status.phase in phases:
                return pod
            time.sleep(0.2)
        raise AssertionError(f"{name} is still {pod.status}")

    def ready(self, name: str, seconds: float = START_SECONDS) -> None:
        """Returns when the pod's probe has succeeded."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            pod = self.api.read_namespaced_pod(name, self.namespace)
            assert pod.status.phase in ("Pending", "Running"), self.log(name)
            if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ()):
                return
            time.sleep(0.5)
        raise AssertionError(f"{name} never became ready:\n{self.log(name)[-3000:]}")

    def log(self, name: str) -> str:
        """What the pod printed so far."""
        return str(self.api.read_namespaced_pod_log(name, self.namespace, _preload_content=False).data.decode())

    def delete(self, name: str) -> None:
        """Asks the pod to stop, and returns when it has."""
        self.api.delete_namespaced_pod(name, self.namespace, grace_period_seconds=120)
        give_up_at = time.monotonic() + START_SECONDS
        with contextlib.suppress(ApiException):
            while time.monotonic() < give_up_at:
                pod = self.api.read_namespaced_pod(name, self.namespace)
                if all(status.state.terminated for status in pod.status.container_statuses):
                    return
                time.sleep(0.2)


@pytest.fixture(scope="session")
def pods(kubeconfig: Path) -> Iterator[ImagePods]:
    """Pods in a namespace of their own on the real cluster."""
    load_kube_config(str(kubeconfig))
    api = client.CoreV1Api()
    with namespace_for(api, "images") as name:
        yield ImagePods(api, name)


def hand_over(lake: Lake) -> Path:
    """The folder of the lake, which the images' user may write from now on."""
    folder = Path(lake.url.removeprefix("file://"))
    folder.mkdir(exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    return folder
