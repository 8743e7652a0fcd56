"""Kubernetes quantities: "500m", "1Gi", "2e3"."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

from evergreen.localcluster.wire import Json

_FORM = re.compile(r"^([+-]?\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?$")
_SUFFIX = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}

Amounts = dict[str, Decimal]


def parse_quantity(text: str | int | float) -> Decimal:
    """The amount a quantity says (cores, bytes, devices); ValueError when it is not one."""
    match = _FORM.match(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is not a quantity such as 2, 500m or 1Gi")
    number, exponent, suffix = match.groups()
    return Decimal(number).scaleb(int(exponent or 0)) * _SUFFIX.get(suffix or "", Decimal(1))


def container_requests(container: Json) -> Amounts:
    """What one container asks of its node; a limit without a request counts as the request."""
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(amount) for name, amount in asked.items()}


def pod_requests(spec: Json) -> Amounts:
    """What a pod holds while it runs: the sum of its containers, or its largest init container."""
    total: Counter[str] = Counter()
    for container in spec["containers"]:
        total.update(container_requests(container))
    amounts: Amounts = {name: Decimal(amount) for name, amount in total.items()}
    for container in spec.get("initContainers") or []:
        for name, amount in container_requests(container).items():
            amounts[name] = max(amounts.get(name, Decimal(0)), amount)
    return {**amounts, "pods": Decimal(1)}


def memory_limit_bytes(container: Json) -> int | None:
    """The container's memory limit in bytes, or None without one."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return None if limit is None else int(parse_quantity(limit))
