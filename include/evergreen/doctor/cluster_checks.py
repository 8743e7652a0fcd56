"""The cluster: whether it answers, lets us do what the operators do, and has room for the profiles in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from evergreen.doctor.check import Check, failed, not_applicable, ok, refused, warning
from evergreen.doctor.kubernetes_api import KubernetesApi, looked
from evergreen.doctor.room_for_profile import quota_check, room_check
from evergreen.doctor.settings_checks import profiles_in_use
from evergreen.errors import EvergreenError
from evergreen.orchestration.profiles import Profile
from evergreen.settings import Settings

LAKE_SECRET = "evergreen-lake"  # noqa: S105
"""Secret with the object store's credentials, as training pods name it."""
TRAINING_RIGHTS = (
    *(("pods", verb) for verb in ("create", "get", "list", "watch", "patch", "delete")),
    ("pods/log", "get"),
    *(("events", verb) for verb in ("get", "list", "watch")),
)
SERVING_RIGHTS = (("apps/deployments", "list"), ("pods", "list"), ("pods/proxy", "get"), ("pods/proxy", "create"))
LOCAL_HAS_NONE = "the local cluster has none"


def examine_cluster(settings: Settings) -> Iterator[Check]:
    """Stops when the API server does not answer."""
    try:
        cluster = KubernetesApi.connect(settings.kubeconfig)
        version = cluster.version
    except EvergreenError as error:
        yield refused("connection", error)
        return
    yield ok("connection", f"Kubernetes {version} at {cluster.where}")
    yield looked("namespace", lambda: _namespace(cluster, settings.namespace))
    yield from _all_rights(cluster, settings)
    try:
        profiles = profiles_in_use(settings)
    except EvergreenError:  # the part `settings` says what is wrong with them
        profiles = {}
    yield from _room(cluster, settings, profiles)
    yield looked("service account", lambda: _service_account(cluster, settings))
    yield looked(f"secret {LAKE_SECRET}", lambda: _lake_secret(cluster, settings))


def _namespace(cluster: KubernetesApi, name: str) -> Check:
    remedy = f"kubectl create namespace {name}, or correct EVERGREEN_NAMESPACE."
    found = _found(cluster, cluster.core.read_namespace, name)
    if found is None:
        return failed("namespace", f"no namespace {name}", remedy)
    if found.status and found.status.phase == "Terminating":
        return failed("namespace", f"{name} is being deleted", remedy)
    return ok("namespace", name)


def _all_rights(cluster: KubernetesApi, settings: Settings) -> Iterator[Check]:
    if cluster.is_local:
        yield not_applicable("rights", "whoever has the local cluster's token may do everything")
        return
    yield looked("rights", lambda: _rights(cluster, "rights", settings.namespace, TRAINING_RIGHTS, "evergreen-pods"))
    serving = settings.serving_namespace
    if serving:
        name = "rights to serving"
        yield looked(name, lambda: _rights(cluster, name, serving, SERVING_RIGHTS, "evergreen-rollout"))


def _rights(cluster: KubernetesApi, name: str, namespace: str, wanted: tuple[tuple[str, str], ...], role: str) -> Check:
    missing = [f"{verb} {what}" for what, verb in wanted if not _may(cluster, namespace, what, verb)]
    if missing:
        remedy = f"Bind Role {role} of docker/kubernetes in {namespace} to this account (docs/kubernetes.md)."
        return failed(name, f"in {namespace} this account may not: {', '.join(missing)}", remedy)
    return ok(name, f"all {len(wanted)} that are needed in {namespace}")


def _may(cluster: KubernetesApi, namespace: str, what: str, verb: str) -> bool:
    _, apps, path = what.rpartition("apps/")
    resource, _, subresource = path.partition("/")
    attributes = client.V1ResourceAttributes(
        namespace=namespace, group=apps.rstrip("/"), verb=verb,
        resource=resource, subresource=subresource or None,
    )  # fmt: skip
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    asked = client.AuthorizationV1Api(cluster.api).create_self_subject_access_review
    return bool(cluster.ask(asked, review).status.allowed)


def _room(cluster: KubernetesApi, settings: Settings, profiles: dict[str, Profile]) -> Iterator[Check]:
    for name, profile in profiles.items():
        title = f"room for {name}"
        yield looked(title, lambda: room_check(title, profile, cluster.ask(cluster.core.list_node).items))  # noqa: B023
        if cluster.is_local:
            yield not_applicable(f"quota for {name}", LOCAL_HAS_NONE)
            continue
        quotas = cluster.core.list_namespaced_resource_quota
        title = f"quota for {name}"
        yield looked(title, lambda: quota_check(title, profile, cluster.ask(quotas, settings.namespace).items))  # noqa: B023
        if profile.priority_class:
            yield looked(f"priority class {profile.priority_class}", lambda: _priority(cluster, profile))  # noqa: B023


def _priority(cluster: KubernetesApi, profile: Profile) -> Check:
    wanted = str(profile.priority_class)
    name = f"priority class {wanted}"
    found = _found(cluster, client.SchedulingV1Api(cluster.api).read_priority_class, wanted)
    if found is None:
        return failed(
            name, "no such class, so every pod that names it is refused", "Apply docker/kubernetes/base/priorities."
        )
    return ok(name, f"value {found.value}")


def _service_account(cluster: KubernetesApi, settings: Settings) -> Check:
    name, account = "service account", settings.service_account
    if account is None or cluster.is_local:
        return not_applicable(name, "pods run as the namespace's default one" if account is None else LOCAL_HAS_NONE)
    if _found(cluster, cluster.core.read_namespaced_service_account, account, settings.namespace) is None:
        remedy = "Apply docker/kubernetes/base/training, or correct EVERGREEN_SERVICE_ACCOUNT."
        return failed(name, f"no {account} in {settings.namespace}, so no pod can be created", remedy)
    return ok(name, account)


def _lake_secret(cluster: KubernetesApi, settings: Settings) -> Check:
    name = f"secret {LAKE_SECRET}"
    if settings.lake_url.startswith("file://"):
        if cluster.is_local:
            return not_applicable(name, "the lake is a directory of this machine")
        remedy = "Set EVERGREEN_LAKE_URL to an s3:// URL; a directory of one machine serves no cluster of several."
        return warning(name, f"the lake is {settings.lake_url}, which pods see only where it is mounted", remedy)
    secret = _found(cluster, cluster.core.read_namespaced_secret, LAKE_SECRET, settings.namespace)
    if secret is None:
        remedy = "Create it with the AWS_* variables as keys; fine without where pods get credentials from the cloud."
        return warning(name, f"none in {settings.namespace}", remedy)
    return ok(name, f"holds {', '.join(sorted(secret.data or {})) or 'nothing'}")


def _found(cluster: KubernetesApi, read: Any, *names: str) -> Any:
    """The object, or None when there is none."""
    try:
        return cluster.ask(read, *names)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
