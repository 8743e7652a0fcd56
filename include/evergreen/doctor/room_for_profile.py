"""Whether a node could ever hold a pod of a resource profile, and whether the namespace's quota lets it in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from evergreen.doctor.check import Check, failed, ok, warning
from evergreen.orchestration.profiles import Profile

HARD_EFFECTS = ("NoSchedule", "NoExecute")


def room_check(name: str, profile: Profile, nodes: Sequence[Any]) -> Check:
    """Whether one of `nodes` (V1Node), were it empty, could hold a pod of `profile`."""
    reasons = {node.metadata.name: why_not(profile, node) for node in nodes}
    holding = [node for node, reason in reasons.items() if reason is None]
    if holding:
        more = f" and {len(holding) - 1} more" if len(holding) > 1 else ""
        return ok(name, f"node {holding[0]}{more} can hold it")
    counted = Counter(reason for reason in reasons.values() if reason)
    said = "; ".join(f"{count} with {reason}" for reason, count in counted.most_common()) or "there is none"
    remedy = "Fine where an autoscaler adds such a node; otherwise add one, or correct the profile (docs/profiles.md)."
    return warning(name, f"none of {len(nodes)} nodes could hold it: {said}", remedy)


def why_not(profile: Profile, node: Any) -> str | None:
    """What keeps a pod of `profile` off the node for good, in words; None when nothing does, affinity left aside."""
    if node.spec.unschedulable:
        return "scheduling switched off (cordoned)"
    labels = node.metadata.labels or {}
    if not profile.node_selector.items() <= labels.items():
        return "other labels than its node_selector"
    for taint in node.spec.taints or ():
        if taint.effect in HARD_EFFECTS and not _tolerated(profile, taint):
            return f"untolerated taint {taint.key}"
    for resource, amount in demand(profile).items():
        if amount > parse_quantity(node.status.allocatable.get(resource, "0")):
            return f"too little {resource}"
    return None


def quota_check(name: str, profile: Profile, quotas: Sequence[Any]) -> Check:
    """Whether a pod of `profile` fits into what the quotas (V1ResourceQuota) leave."""
    wanted = _quota_terms(profile)
    short = []
    for quota in quotas:
        used = quota.status.used or {}
        for term, hard in (quota.status.hard or {}).items():
            free = parse_quantity(hard) - parse_quantity(used.get(term, "0"))
            if wanted.get(term, 0) > parse_quantity(hard):
                remedy = f"Raise {term} in ResourceQuota {quota.metadata.name}, or ask for less in the profile."
                return failed(name, f"{term} of {quota.metadata.name} is {hard}, less than one pod asks for", remedy)
            if wanted.get(term, 0) > free:
                short.append(f"{term}: {used.get(term)} of {hard} used")
    if short:
        return warning(name, "; ".join(short), "Wait for pods to end, or raise the quota: until then pods are refused.")
    return ok(name, f"fits into {', '.join(q.metadata.name for q in quotas)}" if quotas else "no quota there")


def demand(profile: Profile) -> dict[str, Decimal]:
    """What the scheduler sets aside for a pod: its requests, and its limits where no request is named."""
    return {name: parse_quantity(text) for name, text in {**profile.limits, **profile.requests}.items()}


def _quota_terms(profile: Profile) -> dict[str, Decimal]:
    """The demand under the names that quotas use."""
    requests = {f"requests.{name}": amount for name, amount in demand(profile).items()}
    limits = {f"limits.{name}": parse_quantity(text) for name, text in profile.limits.items()}
    short = {name: amount for name, amount in demand(profile).items() if name in ("cpu", "memory")}
    return {"pods": Decimal(1), **short, **requests, **limits}


def _tolerated(profile: Profile, taint: Any) -> bool:
    return any(
        (one.key is None or one.key == taint.key)
        and (one.operator == "Exists" or one.value == taint.value)
        and one.effect in (None, taint.effect)
        for one in profile.tolerations
    )
