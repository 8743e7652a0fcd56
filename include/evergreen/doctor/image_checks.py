"""The trainer image: a pod of it says which release of Evergreen it carries, and is gone afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from kubernetes.client import ApiException

from evergreen.doctor.check import Check, failed, not_applicable, ok, warning
from evergreen.doctor.kubernetes_api import KubernetesApi, looked, message_of
from evergreen.errors import EvergreenError
from evergreen.settings import VERSION, Settings

PATIENCE_SECONDS = 75.0
"""Time for a node, the image and the pod; the part's own time must be longer, so that the pod is deleted."""
LOOK_SECONDS = 0.5
PROGRAM = "import evergreen.step; from evergreen.settings import VERSION; print('evergreen', VERSION)"
HOPELESS = ("InvalidImageName", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError")
USER_ID = 10001
"""The user the images are built for."""
NAME = "trainer image"


def examine_image(settings: Settings) -> Iterator[Check]:
    """Runs one small pod in the namespace of training pods."""
    try:
        cluster = KubernetesApi.connect(settings.kubeconfig)
        local = cluster.is_local
    except EvergreenError:  # the part `cluster` says why
        yield not_applicable(NAME, "needs a cluster that answers")
        return
    if local:
        yield not_applicable(NAME, "the local cluster pulls none: pods run with this machine's own Python")
    yield looked("pod" if local else NAME, lambda: _run(cluster, settings, "pod" if local else NAME))


def _run(cluster: KubernetesApi, settings: Settings, name: str) -> Check:
    pod_name, started = f"evergreen-doctor-{uuid.uuid4().hex[:8]}", time.monotonic()
    try:
        cluster.ask(cluster.core.create_namespaced_pod, settings.namespace, _manifest(pod_name, settings))
    except ApiException as error:
        return failed(
            name, f"the pod was refused: {message_of(error)}", "See the part `cluster`: namespace, rights, quota."
        )
    try:
        pod = _ended(cluster, settings.namespace, pod_name, started + PATIENCE_SECONDS)
        log = _log(cluster, pod)
    finally:
        cluster.ask(cluster.core.delete_namespaced_pod, pod_name, settings.namespace, grace_period_seconds=0)
    return _judge(name, settings, pod, log, time.monotonic() - started)


def _ended(cluster: KubernetesApi, namespace: str, name: str, deadline: float) -> Any:
    """The pod, once it has ended, cannot start, or time is up."""
    while True:
        pod = cluster.ask(cluster.core.read_namespaced_pod, name, namespace)
        ended = pod.status.phase in ("Succeeded", "Failed")
        if ended or _waiting(pod).partition(":")[0] in HOPELESS or time.monotonic() > deadline:
            return pod
        time.sleep(LOOK_SECONDS)


def _log(cluster: KubernetesApi, pod: Any) -> str:
    if pod.status.phase not in ("Succeeded", "Failed"):
        return ""
    names = (pod.metadata.name, pod.metadata.namespace)
    # The client would make Python's repr of the bytes.
    said = cluster.ask(cluster.core.read_namespaced_pod_log, *names, _preload_content=False)
    return str(said.data.decode(errors="replace")).strip()


def _judge(name: str, settings: Settings, pod: Any, log: str, seconds: float) -> Check:
    image = settings.trainer_image
    if pod.status.phase == "Failed":
        last = log.splitlines()[-1] if log else pod.status.reason or "no word"
        return failed(name, f"a pod of {image} failed: {last}", f"Build {image} from docker/trainer and push it.")
    if pod.status.phase != "Succeeded":
        remedy = f"Push {image} where the nodes can pull it, or correct EVERGREEN_TRAINER_IMAGE."
        found = _waiting(pod) or f"still {pod.status.phase}"
        hopeless = found.partition(":")[0] in HOPELESS
        return (failed if hopeless else warning)(name, f"no pod of {image} within {seconds:.0f} s: {found}", remedy)
    if log.splitlines()[-1:] != [f"evergreen {VERSION}"]:
        remedy = "Build the image from this release, or install the image's release here: both must be the same."
        return failed(name, f"{image} carries {log or 'nothing'}, and this is evergreen {VERSION}", remedy)
    return ok(name, f"{log} ran as a pod, {seconds:.1f} s")


def _waiting(pod: Any) -> str:
    """Why the pod has not started, as `Reason: message`; empty when it has or nobody says."""
    for status in pod.status.container_statuses or ():
        waiting = status.state.waiting
        if waiting is not None and waiting.reason:
            return f"{waiting.reason}: {waiting.message or ''}"[:300]
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.reason == "Unschedulable":
            return f"Unschedulable: {condition.message}"[:300]
    return ""


def _manifest(name: str, settings: Settings) -> dict[str, Any]:
    """A small pod that the `restricted` security standard and a quota let in."""
    container = {
        "name": "base",
        "image": settings.trainer_image,
        "command": ["python", "-c", PROGRAM],
        "env": [{"name": variable, "value": "/scratch"} for variable in ("HOME", "TMPDIR")],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(2 * PATIENCE_SECONDS),  # should the doctor be killed meanwhile
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "evergreen-doctor"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
