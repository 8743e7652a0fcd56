"""What is wrong with a new pod's spec, field by field, as a real API server would say it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from evergreen.localcluster.field_problems import (
    Problem,
    bad_value,
    dns_label_problems,
    duplicate,
    label_problems,
    not_supported,
    refers_to_nothing,
    required,
    variable_problems,
)
from evergreen.localcluster.quantities import parse_quantity
from evergreen.localcluster.wire import Json

_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_LARGEST_INTEGER = 2**31 - 1


def spec_problems(spec: Json) -> Iterator[Problem]:
    """Everything that is wrong with the spec, in the order Kubernetes looks at it."""
    yield from _volume_problems(spec)
    if not spec.get("containers"):
        yield required("spec.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    yield from _containers_problems("spec.containers", spec.get("containers") or [], volumes)
    yield from _containers_problems("spec.initContainers", spec.get("initContainers") or [], volumes)
    yield from _restart_problems(spec["restartPolicy"])
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _LARGEST_INTEGER:
        why = f"must be between 1 and {_LARGEST_INTEGER}, inclusive"
        yield bad_value("spec.activeDeadlineSeconds", deadline, why)
    yield from label_problems("spec.nodeSelector", spec.get("nodeSelector") or {})
    for number, toleration in enumerate(spec.get("tolerations") or []):
        yield from _toleration_problems(f"spec.tolerations[{number}]", toleration)


def _restart_problems(policy: str) -> Iterator[Problem]:
    # Only what is honoured is accepted: a pod that should restart must not silently run once.
    if policy in ("Always", "OnFailure"):
        yield not_supported("spec.restartPolicy", policy, ["Never"])
    elif policy != "Never":
        yield not_supported("spec.restartPolicy", policy, ["Always", "OnFailure", "Never"])


def _toleration_problems(path: str, toleration: Json) -> Iterator[Problem]:
    operator = toleration.get("operator") or "Equal"
    if operator not in ("Equal", "Exists"):
        yield not_supported(f"{path}.operator", operator, ["Equal", "Exists"])
    if operator == "Exists" and toleration.get("value"):
        yield bad_value(f"{path}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
    effect = toleration.get("effect")
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield bad_value(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if effect and effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        yield not_supported(f"{path}.effect", effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"])


def _volume_problems(spec: Json) -> Iterator[Problem]:
    seen: set[object] = set()
    for number, volume in enumerate(spec.get("volumes") or []):
        field = f"spec.volumes[{number}].name"
        yield from dns_label_problems(field, volume.get("name"))
        if volume.get("name") in seen:
            yield duplicate(field, volume["name"])
        seen.add(volume.get("name"))


def _containers_problems(path: str, containers: list[Json], volumes: set[object]) -> Iterator[Problem]:
    seen: set[object] = set()
    for number, container in enumerate(containers):
        field = f"{path}[{number}]"
        yield from dns_label_problems(f"{field}.name", container.get("name"))
        if container.get("name") in seen:
            yield duplicate(f"{field}.name", container["name"])
        seen.add(container.get("name"))
        yield from _container_problems(field, container, volumes)


def _container_problems(path: str, container: Json, volumes: set[object]) -> Iterator[Problem]:
    if not container.get("image"):
        yield required(f"{path}.image")
    if not container.get("command") and not container.get("args"):
        note = "images are not pulled by the local cluster, so there is no entrypoint to run"
        yield required(f"{path}.command", note)
    if (policy := container["terminationMessagePolicy"]) not in ("File", "FallbackToLogsOnError"):
        yield bad_value(f"{path}.terminationMessagePolicy", policy, "must be 'File' or 'FallbackToLogsOnError'")
    for number, variable in enumerate(container.get("env") or []):
        yield from variable_problems(f"{path}.env[{number}].name", variable.get("name"))
    yield from _mount_problems(path, container, volumes)
    if (policy := container["imagePullPolicy"]) not in ("Always", "IfNotPresent", "Never"):
        yield not_supported(f"{path}.imagePullPolicy", policy, ["Always", "IfNotPresent", "Never"])
    yield from _resource_problems(f"{path}.resources", container["resources"])


def _mount_problems(path: str, container: Json, volumes: set[object]) -> Iterator[Problem]:
    seen: set[object] = set()
    for number, mount in enumerate(container.get("volumeMounts") or []):
        field = f"{path}.volumeMounts[{number}]"
        if not mount.get("name"):
            yield required(f"{field}.name")
        elif mount["name"] not in volumes:
            yield refers_to_nothing(f"{field}.name", mount["name"])
        if not mount.get("mountPath"):
            yield required(f"{field}.mountPath")
        elif mount["mountPath"] in seen:
            yield bad_value(f"{field}.mountPath", mount["mountPath"], "must be unique")
        seen.add(mount.get("mountPath"))


def _resource_problems(path: str, resources: Json) -> Iterator[Problem]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, amount in limits.items():
        yield from _amount_problems(f"{path}.limits[{name}]", name, amount)
    for name, amount in requests.items():
        yield from _amount_problems(f"{path}.requests[{name}]", name, amount)
        if name in limits:
            yield from _request_problems(path, name, amount, parse_quantity(limits[name]))
        elif _is_extended(name):
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")


def _amount_problems(field: str, name: str, amount: str) -> Iterator[Problem]:
    if "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
        yield bad_value(field, name, "must be a standard resource type or fully qualified")
        yield bad_value(field, name, "must be a standard resource for containers")
    quantity = parse_quantity(amount)
    if quantity < 0:
        yield bad_value(field, amount, "must be greater than or equal to 0")
    if _is_extended(name) and quantity != quantity.to_integral_value():
        yield bad_value(field, amount, "must be an integer")


def _request_problems(path: str, name: str, amount: str, limit: Decimal) -> Iterator[Problem]:
    request = parse_quantity(amount)
    if _is_extended(name) and request != limit:
        yield bad_value(f"{path}.requests", amount, f"must be equal to {name} limit")
    elif request > limit:
        yield bad_value(f"{path}.requests", amount, f"must be less than or equal to {name} limit")


def _is_extended(name: str) -> bool:
    return "/" in name
