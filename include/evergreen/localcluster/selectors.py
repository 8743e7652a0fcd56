"""Label and field selectors, in the syntax of list and watch calls."""

from __future__ import annotations

import re
from collections.abc import Callable

from evergreen.localcluster.api_failure import bad_request
from evergreen.localcluster.wire import Json

Matcher = Callable[[Json], bool]
LabelTest = Callable[[dict[str, str]], bool]

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_SET = re.compile(rf"^(?P<key>{_KEY})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(rf"^(?P<key>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<value>[A-Za-z0-9._-]*)$")
_EXISTS = re.compile(rf"^(?P<absent>!?)\s*(?P<key>{_KEY})$")
_COMMA_OUTSIDE_BRACKETS = re.compile(r",(?![^()]*\))")

POD_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
)
EVENT_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
PLAIN_FIELDS = ("metadata.name", "metadata.namespace")


def label_selector(text: str) -> Matcher:
    """A test of an object's labels; 400 when the text is not a selector."""
    terms = [term.strip() for term in _COMMA_OUTSIDE_BRACKETS.split(text) if term.strip()]
    tests = [_label_test(term) for term in terms]

    def matches(item: Json) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def _label_test(term: str) -> LabelTest:
    if match := _SET.match(term):
        values = {value.strip() for value in match["values"].split(",")}
        return _among(match["key"], values, wanted=match["operator"] == "in")
    if match := _EQUAL.match(term):
        return _among(match["key"], {match["value"]}, wanted=match["operator"] != "!=")
    if match := _EXISTS.match(term):
        key, wanted = match["key"], not match["absent"]
        return lambda labels: (key in labels) is wanted
    odd = next((mark for mark in re.findall(r"[^A-Za-z0-9._/=!, -]", term)), term)
    raise bad_request(f"unable to parse requirement: found {odd!r}, expected: identifier")


def _among(key: str, values: set[str], *, wanted: bool) -> LabelTest:
    # An absent label satisfies != and notin, as in Kubernetes.
    return lambda labels: (key in labels and labels[key] in values) is wanted


def field_selector(text: str, known: tuple[str, ...]) -> Matcher:
    """A test of an object's fields; 400 for a field Kubernetes does not select by."""
    tests = [_field_test(term.strip(), known) for term in text.split(",") if term.strip()]
    return lambda item: all(test(item) for test in tests)


def _field_test(term: str, known: tuple[str, ...]) -> Matcher:
    match = re.match(r"^([A-Za-z.]+)(==|=|!=)(.*)$", term)
    if not match:
        raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
    field, operator, value = match.groups()
    if field not in known:
        raise bad_request(f"field label not supported: {field}")
    wanted = operator != "!="
    return lambda item: (_field(item, field) == value) is wanted


def _field(item: Json, path: str) -> str:
    if path == "source":
        return str((item.get("source") or {}).get("component") or item.get("reportingComponent") or "")
    found: object = item
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return "" if found is None else str(found)
