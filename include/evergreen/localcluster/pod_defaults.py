"""What a real API server writes into a new pod where its maker left something out."""

from __future__ import annotations

from evergreen.localcluster.quantities import container_requests, parse_quantity
from evergreen.localcluster.wire import Json

GRACE_SECONDS = 30
TERMINATION_LOG = "/dev/termination-log"
_LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LOST_NODE_SECONDS = 300


def with_defaults(spec: Json) -> Json:
    """The pod's spec with every default written out; what is None counts as left out."""
    spec = _without_none(spec)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        **spec,
        "serviceAccountName": account,
        "serviceAccount": account,
        "tolerations": _tolerations(spec.get("tolerations") or []),
    }
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [_container(container) for container in spec[field]]
    spec.pop("nodeName", None)
    return spec


def quality_of_service(spec: Json) -> str:
    """The class that the containers' requests and limits put the pod in."""
    asked = [container_requests(container) for container in spec["containers"]]
    if not any(asked):
        return "BestEffort"
    limits = [container["resources"].get("limits") or {} for container in spec["containers"]]
    guaranteed = all(
        {"cpu", "memory"} <= limit.keys()
        and all(requests[name] == parse_quantity(limit[name]) for name in ("cpu", "memory"))
        for requests, limit in zip(asked, limits, strict=True)
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _container(container: Json) -> Json:
    container = _without_none(container)
    resources = _without_none(container.get("resources") or {})
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **(resources.get("requests") or {})}
    return {
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "imagePullPolicy": _pull_policy(str(container.get("image") or "")),
        **container,
        "resources": resources,
    }


def _pull_policy(image: str) -> str:
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "IfNotPresent" if "@" in image or (colon and tag != "latest") else "Always"


def _tolerations(given: list[Json]) -> list[Json]:
    """The given ones, and five minutes for a lost node where they say nothing of it."""
    missing = [taint for taint in _LOST_NODE_TAINTS if not any(_tolerates(item, taint) for item in given)]
    wait = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _LOST_NODE_SECONDS}
    return [*given, *({"key": taint, **wait} for taint in missing)]


def _tolerates(toleration: Json, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")


def _without_none(item: Json) -> Json:
    return {key: value for key, value in item.items() if value is not None}
