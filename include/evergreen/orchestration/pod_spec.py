"""Composes a pod of the trainer image from a resource profile: the one place that says what such a pod is.

Everything is given as arguments of the KubernetesPodOperator. What the profile decides can also be set on an operator
that exists already, as the trigger form does. The same spec runs on every cluster, the local one included.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.backcompat.backwards_compat_converters import convert_affinity, convert_env_vars
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

from evergreen.errors import ConfigurationError
from evergreen.orchestration.profiles import Profile
from evergreen.settings import Settings

LAKE_SECRET = "evergreen-lake"  # noqa: S105
"""Secret of the pods' namespace with the object store's credentials as variables; absent on a laptop."""
USER_ID = 10001
"""User and group of every process in a pod, and owner of its volumes; the images are built for it."""
SCRATCH = "/scratch"
DEVICES = {"nvidia.com/gpu": "cuda", "google.com/tpu": "xla"}
"""Limit of a profile -> the kind of device that a step must find in the pod."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108
_IMAGE = {"name": "EVERGREEN_TRAINER_IMAGE", "value": "{{ task.image }}"}
TOLD_ITS_IMAGE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {"containers": [{"name": "base", "env": [_IMAGE]}]},
}
"""What the operator completes to the pod. Receipts name the image that ran: a trainer of one's own has another than the
settings', given after these arguments, and what the profile decides is set again once templates are rendered."""


def pod_arguments(settings: Settings, profile: Profile, labels: dict[str, str]) -> dict[str, Any]:
    """Arguments for the operator: where the pod runs, as whom, with which environment and resources."""
    return {
        "namespace": settings.namespace,
        "service_account_name": settings.service_account,
        "image": settings.trainer_image,
        "pod_template_dict": TOLD_ITS_IMAGE,
        "config_file": str(settings.kubeconfig) if settings.kubeconfig else None,
        "in_cluster": settings.kubeconfig is None,
        "env_from": [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=LAKE_SECRET, optional=True))],
        "automount_service_account_token": False,
        "security_context": _pod_security(),
        "container_security_context": _container_security(),
        **profile_arguments(settings, profile, labels),
    }


def profile_arguments(settings: Settings, profile: Profile, labels: dict[str, str]) -> dict[str, Any]:
    """The arguments that the profile decides, under the names of the operator's attributes."""
    return {
        "labels": {**profile.labels, **labels},
        "env_vars": convert_env_vars(_environment(settings, profile)),
        "container_resources": k8s.V1ResourceRequirements(requests=profile.requests, limits=profile.limits),
        "node_selector": profile.node_selector,
        "tolerations": [k8s.V1Toleration(**toleration.model_dump()) for toleration in profile.tolerations],
        "affinity": _affinity(profile),
        "priority_class_name": profile.priority_class,
        "volumes": _volumes(profile),
        "volume_mounts": _mounts(profile),
        "schedule_timeout_seconds": profile.schedule_timeout_seconds,
        "startup_timeout_seconds": profile.schedule_timeout_seconds,
        "active_deadline_seconds": profile.deadline_seconds,
        "deferrable": profile.deferrable,
        "poll_interval": 2,
        "logging_interval": 5,
    }


def _environment(settings: Settings, profile: Profile) -> dict[str, str]:
    """Nothing secret; what libraries write goes to the scratch volume, for the root file system is read-only.

    torch is told to compile nothing at first use here too, and not in Evergreen's image alone: neither an image of
    one's own nor the machine of a local cluster need have a C compiler.
    """
    expected = next((kind for limit, kind in DEVICES.items() if limit in profile.limits), "")
    return {
        "EVERGREEN_EXPECTED_DEVICE": "" if settings.made_up_devices else expected,
        "EVERGREEN_PRICE_PER_HOUR": str(profile.price_per_hour),
        "EVERGREEN_WATTS": str(profile.watts),
        "EVERGREEN_LAKE_URL": settings.lake_url,
        "EVERGREEN_CODE_VERSION": settings.code_version,
        "OMP_WAIT_POLICY": "passive",
        "TORCH_DISABLE_NATIVE_JIT": "1",
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "XDG_CACHE_HOME": f"{SCRATCH}/.cache",
    }


def _pod_security() -> k8s.V1PodSecurityContext:
    """What the `restricted` pod security standard asks for."""
    return k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER_ID,
        run_as_group=USER_ID,
        fs_group=USER_ID,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def _container_security() -> k8s.V1SecurityContext:
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        privileged=False,
        read_only_root_filesystem=True,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def _volumes(profile: Profile) -> list[k8s.V1Volume]:
    scratch = k8s.V1EmptyDirVolumeSource(size_limit=profile.scratch)
    volumes = [k8s.V1Volume(name="scratch", empty_dir=scratch)]
    if profile.shm:
        memory = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=profile.shm)
        volumes.append(k8s.V1Volume(name="shm", empty_dir=memory))
    return volumes


def _mounts(profile: Profile) -> list[k8s.V1VolumeMount]:
    mounts = [k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH)]
    if profile.shm:
        mounts.append(k8s.V1VolumeMount(name="shm", mount_path=SHARED_MEMORY))
    return mounts


def _affinity(profile: Profile) -> k8s.V1Affinity | None:
    """The client's object; a key that Kubernetes does not know is refused, where the client would drop it."""
    if not profile.affinity:
        return None
    affinity = convert_affinity(profile.affinity)
    kept = ApiClient().sanitize_for_serialization(affinity)
    if kept != profile.affinity:
        raise ConfigurationError(
            "A resource profile's affinity",
            found=str(profile.affinity),
            wanted=f"keys of a Kubernetes Affinity; only {kept} was understood",
            remedy="Correct its spelling in the profiles' file.",
        )
    return affinity
