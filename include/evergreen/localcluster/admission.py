"""What a new object must look like, and the defaults it gets: refused here as a real API server would."""

from __future__ import annotations

import re
import secrets
import string
from base64 import b64encode
from decimal import Decimal

from evergreen.localcluster.api_failure import ApiFailure, bad_request, invalid
from evergreen.localcluster.quantities import container_requests, parse_quantity
from evergreen.localcluster.wire import Json

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_KEY = re.compile(r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
_DATA_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")
_SUFFIX_LETTERS = string.ascii_lowercase + string.digits
DEFAULT_GRACE_SECONDS = 30


def admit_metadata(kind: str, namespace: str, body: Json) -> Json:
    """The object with a checked name and namespace; 400 or 422 when they are wrong."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        raise bad_request(f"the body is not a {kind} with metadata")
    metadata: Json = {k: v for k, v in body["metadata"].items() if v is not None}
    if metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            f"the namespace of the provided object does not match the namespace sent on the request: "
            f"{metadata['namespace']} != {namespace}"
        )
    if "name" not in metadata and "generateName" in metadata:
        suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
        metadata["name"] = f"{metadata['generateName'][:58]}{suffix}"
    check_name(kind, metadata.get("name"))
    check_labels(kind, metadata)
    for server_owned in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"):
        metadata.pop(server_owned, None)
    return {**body, "kind": kind, "apiVersion": "v1", "metadata": metadata}


def check_name(kind: str, name: object) -> None:
    """Nothing when Kubernetes takes the name (it becomes part of a file's name here); 422 otherwise."""
    if not isinstance(name, str) or not name:
        raise invalid(kind, "", "metadata.name", "Required value: name or generateName is required")
    if len(name) > 253 or not _SUBDOMAIN.match(name):
        problem = f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case '
        raise invalid(kind, name, "metadata.name", problem + "alphanumeric characters, '-' or '.'")


def check_labels(kind: str, metadata: Json) -> None:
    """Nothing when every label is one Kubernetes takes; 422 otherwise."""
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.match(key) or not isinstance(value, str) or not _LABEL_VALUE.match(value):
            problem = f'Invalid value: "{key}={value}": a valid label is at most 63 alphanumeric characters'
            raise invalid(kind, metadata["name"], "metadata.labels", f"{problem}, '-', '_' or '.'")


def admit_data(kind: str, namespace: str, body: Json) -> Json:
    """A Secret or ConfigMap ready to be stored, a Secret's stringData merged into its data."""
    item = admit_metadata(kind, namespace, body)
    return with_encoded_strings(kind, item)


def with_encoded_strings(kind: str, item: Json) -> Json:
    """The object with stringData as data; 422 for a key that could not be a file's name."""
    plain = item.pop("stringData", None) or {}
    encoded = {key: b64encode(value.encode()).decode() for key, value in plain.items()}
    data = {**(item.get("data") or {}), **encoded}
    for key in data:
        if not _DATA_KEY.match(key) or key.startswith(".."):
            problem = f'Invalid value: "{key}": a valid key consists of alphanumeric characters, "-", "_" or "."'
            raise invalid(kind, item["metadata"]["name"], f"data[{key}]", problem)
    return {**item, "data": data}


def admit_pod(namespace: str, body: Json) -> Json:
    """A pod ready to be stored: checked, with defaults and a Pending status."""
    pod = admit_metadata("Pod", namespace, body)
    name = pod["metadata"]["name"]
    spec = {k: v for k, v in (pod.get("spec") or {}).items() if v is not None}
    if not spec.get("containers"):
        raise invalid("Pod", name, "spec.containers", "Required value")
    # Only what is honoured is accepted: a pod that should restart must not silently run once.
    if (policy := spec.get("restartPolicy", "Always")) != "Never":
        problem = f'Unsupported value: "{policy}": supported values on the local cluster: "Never"'
        raise invalid("Pod", name, "spec.restartPolicy", problem)
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or []):
            _check_container(name, f"spec.{field}[{number}]", container)
    _check_names_differ(name, spec)
    for number, volume in enumerate(spec.get("volumes") or []):
        _check_dns_label(name, f"spec.volumes[{number}].name", volume.get("name"))
    spec.setdefault("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    defaults = {"schedulerName": "default-scheduler", "serviceAccountName": "default", "dnsPolicy": "ClusterFirst"}
    status = {"phase": "Pending", "qosClass": _quality_of_service(spec)}
    spec = {**defaults, **spec}
    spec.pop("nodeName", None)
    return {**pod, "spec": spec, "status": status}


def _check_container(pod: str, path: str, container: Json) -> None:
    _check_dns_label(pod, f"{path}.name", container.get("name"))
    if not container.get("image"):
        raise invalid("Pod", pod, f"{path}.image", "Required value")
    if not container.get("command") and not container.get("args"):
        problem = "Required value: images are not pulled by the local cluster, so there is no entrypoint to run"
        raise invalid("Pod", pod, f"{path}.command", problem)
    _check_resources(pod, f"{path}.resources", container)


def _check_dns_label(pod: str, path: str, name: object) -> None:
    if not isinstance(name, str) or not _DNS_LABEL.match(name):
        raise invalid("Pod", pod, path, f'Invalid value: "{name}": a lowercase RFC 1123 label is required')


def _check_resources(pod: str, path: str, container: Json) -> None:
    try:
        requests = container_requests(container)
        limits = (container.get("resources") or {}).get("limits") or {}
        for resource, limit in limits.items():
            if requests[resource] > parse_quantity(limit):
                problem = f'Invalid value: "{requests[resource]}": must be less than or equal to {resource} limit'
                raise invalid("Pod", pod, f"{path}.requests", problem)
    except ValueError as error:
        raise invalid("Pod", pod, path, f"Invalid value: {error}") from error


def _check_names_differ(pod: str, spec: Json) -> None:
    names = [c["name"] for field in ("initContainers", "containers") for c in spec.get(field) or []]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise invalid("Pod", pod, "spec.containers", f'Duplicate value: "{twice}"')


def _quality_of_service(spec: Json) -> str:
    asked = [container_requests(container) for container in spec["containers"]]
    if not any(asked):
        return "BestEffort"
    limits = [(container.get("resources") or {}).get("limits") or {} for container in spec["containers"]]
    guaranteed = all(
        {"cpu", "memory"} <= limit.keys()
        and all(Decimal(requests[name]) == parse_quantity(limit[name]) for name in ("cpu", "memory"))
        for requests, limit in zip(asked, limits, strict=True)
    )
    return "Guaranteed" if guaranteed else "Burstable"


def check_pod_update(old: Json, new: Json) -> None:
    """Nothing when only what a running pod may change has changed; 422 otherwise."""
    name = old["metadata"]["name"]
    if new.get("spec") != old["spec"]:
        problem = "Forbidden: pod updates may not change fields other than metadata on the local cluster"
        raise invalid("Pod", name, "spec", problem)
    for field in ("name", "namespace", "uid"):
        if new["metadata"].get(field) != old["metadata"][field]:
            raise invalid("Pod", name, f"metadata.{field}", "Invalid value: field is immutable")
    check_labels("Pod", new["metadata"])


def unsupported(message: str) -> ApiFailure:
    """501: something Kubernetes can do and this stand-in does not."""
    return ApiFailure(501, "NotImplemented", f"{message} is not supported by the local cluster")
