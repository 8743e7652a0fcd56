"""The kinds of object the API serves, and what can be done with each."""

from __future__ import annotations

from dataclasses import dataclass

from evergreen.localcluster.selectors import EVENT_FIELDS, PLAIN_FIELDS, POD_FIELDS
from evergreen.localcluster.wire import Json


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind: its name in URLs, in objects, and the fields it can be selected by."""

    plural: str
    kind: str
    short: str
    namespaced: bool = True
    fields: tuple[str, ...] = PLAIN_FIELDS
    verbs: tuple[str, ...] = ("create", "delete", "get", "list", "patch", "watch")


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource(plural="pods", kind="Pod", short="po", fields=POD_FIELDS),
        Resource(plural="events", kind="Event", short="ev", fields=EVENT_FIELDS, verbs=("get", "list", "watch")),
        Resource(plural="secrets", kind="Secret", short="secret"),
        Resource(plural="configmaps", kind="ConfigMap", short="cm"),
        Resource(plural="namespaces", kind="Namespace", short="ns", namespaced=False, verbs=("create", "get", "list")),
        Resource(plural="nodes", kind="Node", short="no", namespaced=False, verbs=("get", "list")),
    )
}

VERSION: Json = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+evergreen.local",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def resource_list() -> Json:
    """What clients read to discover the API."""
    found = [
        {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "shortNames": [resource.short],
            "verbs": list(resource.verbs),
        }
        for resource in RESOURCES.values()
    ]
    log = {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
    return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [*found, log]}
