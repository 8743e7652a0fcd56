"""The patch formats clients send: JSON merge, strategic merge and JSON patch."""

from __future__ import annotations

import copy
from typing import Any

from evergreen.localcluster.api_failure import ApiFailure, bad_request
from evergreen.localcluster.wire import Json

_MERGE = ("application/merge-patch+json", "application/strategic-merge-patch+json")


def apply_patch(item: Json, patch: Any, content_type: str) -> Json:
    """The patched object, a copy; 415 for a format that is not read here."""
    content_type = content_type.partition(";")[0].strip()
    if content_type == "application/json-patch+json":
        return _json_patch(item, patch)
    if content_type in _MERGE and isinstance(patch, dict):
        # Metadata is all a pod's patch may change, and maps merge alike in both formats.
        merged = _merge(item, patch)
        return merged if isinstance(merged, dict) else item
    raise ApiFailure(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def _json_patch(item: Json, operations: Any) -> Json:
    """RFC 6902: add, replace, remove and test."""
    result = copy.deepcopy(item)
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    for operation in operations:
        try:
            _operate(result, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            message = "the server rejected our request due to an error in our request"
            raise ApiFailure(422, "Invalid", message, {}) from error
    return result


def _operate(document: Any, operation: Json) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    name, value = operation["op"], operation.get("value")
    if isinstance(document, list):
        _operate_on_list(document, name, len(document) if last == "-" else int(last), value)
    elif name == "add":
        document[last] = value
    else:
        _change_existing(document, name, last, value)


def _operate_on_list(document: list[Any], name: str, place: int, value: Any) -> None:
    if name == "add":
        document.insert(place, value)
    else:
        _change_existing(document, name, place, value)


def _change_existing(document: Any, name: str, key: Any, value: Any) -> None:
    current = document[key]
    if name == "replace":
        document[key] = value
    elif name == "remove":
        del document[key]
    elif name != "test" or current != value:
        raise ValueError(f"{name} cannot be done, or the tested value differs")
