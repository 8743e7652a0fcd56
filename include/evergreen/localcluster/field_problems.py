"""What is wrong with a field of an object, in the words and with the reasons of Kubernetes' own validation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_STARTS_AND_ENDS = "and must start and end with an alphanumeric character"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One cause of a 422: the path of the field, a reason for programs, a message for people."""

    field: str
    reason: str
    message: str


def required(field: str, note: str = "") -> Problem:
    """The field is missing or empty."""
    return Problem(
        field=field, reason="FieldValueRequired", message=f"Required value: {note}" if note else "Required value"
    )


def bad_value(field: str, value: object, why: str) -> Problem:
    """The field has a value it must not have."""
    return Problem(field=field, reason="FieldValueInvalid", message=f"Invalid value: {json.dumps(value)}: {why}")


def not_supported(field: str, value: object, supported: Iterable[str]) -> Problem:
    """The field has none of the values there are."""
    listed = ", ".join(f'"{item}"' for item in supported)
    text = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    return Problem(field=field, reason="FieldValueNotSupported", message=text)


def duplicate(field: str, value: object) -> Problem:
    """The value is taken by an earlier element of the list."""
    return Problem(field=field, reason="FieldValueDuplicate", message=f"Duplicate value: {json.dumps(value)}")


def refers_to_nothing(field: str, value: object) -> Problem:
    """The field names something the object does not have."""
    return Problem(field=field, reason="FieldValueNotFound", message=f"Not found: {json.dumps(value)}")


def forbidden(field: str, why: str) -> Problem:
    """The field may not be set, or not be changed."""
    return Problem(field=field, reason="FieldValueForbidden", message=f"Forbidden: {why}")


def subdomain_problems(field: str, name: str) -> Iterator[Problem]:
    """Why the text cannot name an object."""
    if len(name) > 253:
        yield bad_value(field, name, "must be no more than 253 characters")
    if not _SUBDOMAIN.fullmatch(name):
        why = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            f"{_STARTS_AND_ENDS} (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN.pattern}')"
        )
        yield bad_value(field, name, why)


def dns_label_problems(field: str, name: object) -> Iterator[Problem]:
    """Why the text cannot name a container, a volume or a namespace."""
    if not name:
        yield required(field)
    elif len(str(name)) > 63:
        yield bad_value(field, name, "must be no more than 63 characters")
    elif not _DNS_LABEL.fullmatch(str(name)):
        why = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            f"{_STARTS_AND_ENDS} (e.g. 'my-name',  or '123-abc', "
            f"regex used for validation is '{_DNS_LABEL.pattern}')"
        )
        yield bad_value(field, name, why)


def label_problems(field: str, labels: Mapping[str, str]) -> Iterator[Problem]:
    """Why some of the labels, or of a node selector, cannot be."""
    for key, value in labels.items():
        yield from _label_key_problems(field, key)
        if len(value) > 63:
            yield bad_value(field, value, "must be no more than 63 characters")
        if not _LABEL_VALUE.fullmatch(value):
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
                f"{_STARTS_AND_ENDS} (e.g. 'MyValue',  or 'my_value',  or '12345', "
                f"regex used for validation is '{_LABEL_VALUE.pattern}')"
            )
            yield bad_value(field, value, why)


def _label_key_problems(field: str, key: str) -> Iterator[Problem]:
    prefix, slash, name = key.rpartition("/")
    if slash:
        yield from subdomain_problems(field, prefix)
    if len(name) > 63:
        yield bad_value(field, key, "name part must be no more than 63 characters")
    if not _NAME_PART.fullmatch(name):
        why = (
            "name part must consist of alphanumeric characters, '-', '_' or '.', "
            f"{_STARTS_AND_ENDS} (e.g. 'MyName',  or 'my.name',  or '123-abc', "
            f"regex used for validation is '{_NAME_PART.pattern}')"
        )
        yield bad_value(field, key, why)


def data_key_problems(key: str) -> Iterator[Problem]:
    """Why the key of a Secret or ConfigMap cannot be: it may become a file's name."""
    field = f"data[{key}]"
    if len(key) > 253:
        yield bad_value(field, key, "must be no more than 253 characters")
    if not _DATA_KEY.fullmatch(key):
        why = (
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
            f"(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '{_DATA_KEY.pattern}')"
        )
        yield bad_value(field, key, why)
    if key in (".", ".."):
        yield bad_value(field, key, f"must not be '{key}'")
    elif key.startswith(".."):
        yield bad_value(field, key, "must not start with '..'")


def variable_problems(field: str, name: object) -> Iterator[Problem]:
    """Why the text cannot name an environment variable."""
    if not name:
        yield required(field)
    elif not _VARIABLE.fullmatch(str(name)):
        why = (
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
            "and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', "
            f"regex used for validation is '{_VARIABLE.pattern}')"
        )
        yield bad_value(field, name, why)
