"""What a new object must look like, and the defaults it gets: refused here as a real API server would."""

from __future__ import annotations

import binascii
import secrets
import string
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

from evergreen.localcluster.api_failure import ApiFailure, bad_request, invalid
from evergreen.localcluster.field_problems import (
    Problem,
    bad_value,
    data_key_problems,
    dns_label_problems,
    forbidden,
    label_problems,
    required,
    subdomain_problems,
)
from evergreen.localcluster.pod_defaults import quality_of_service, with_defaults
from evergreen.localcluster.pod_validation import spec_problems
from evergreen.localcluster.quantities import parse_quantity
from evergreen.localcluster.wire import Json

_SUFFIX_LETTERS = string.ascii_lowercase + string.digits
_SERVER_OWNED = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def admit_metadata(kind: str, namespace: str, body: Json) -> Json:
    """The object with its kind, name and namespace; 400 when it is not such an object at all."""
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind")
    if body.get("kind", kind) != kind:
        why = f"converting (v1.{body['kind']}) to (core.{kind}): unknown conversion"
        raise bad_request(f'{body["kind"]} in version "v1" cannot be handled as a {kind}: {why}')
    given = body.get("metadata") or {}
    metadata: Json = {k: v for k, v in given.items() if v is not None and k not in _SERVER_OWNED}
    _check_label_types(kind, metadata)
    if metadata.setdefault("namespace", namespace) != namespace:
        problem = "the namespace of the provided object does not match the namespace sent on the request"
        raise bad_request(problem)
    if not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
        metadata["name"] = f"{metadata['generateName'][:58]}{suffix}"
    return {**body, "kind": kind, "apiVersion": "v1", "metadata": metadata}


def metadata_problems(metadata: Json) -> Iterator[Problem]:
    """What is wrong with the name and the labels; the name becomes part of a file's name here."""
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from subdomain_problems("metadata.name", str(name))
    yield from label_problems("metadata.labels", metadata.get("labels") or {})


def check_namespace(name: str) -> None:
    """Nothing when the text can name a namespace; 422 otherwise."""
    _refuse("Namespace", name, dns_label_problems("metadata.name", name))


def admit_data(kind: str, namespace: str, body: Json) -> Json:
    """A Secret or ConfigMap ready to be stored, a Secret's stringData merged into its data."""
    item = admit_metadata(kind, namespace, body)
    if kind == "Secret":
        item.setdefault("type", "Opaque")
    return with_encoded_strings(kind, item)


def with_encoded_strings(kind: str, item: Json) -> Json:
    """The object with stringData as data; 400 for data that is not base64, 422 for a key that cannot be."""
    item = dict(item)
    plain = item.pop("stringData", None) or {}
    encoded = {key: b64encode(value.encode()).decode() for key, value in plain.items()}
    data = {**(item.get("data") or {}), **encoded}
    if kind == "Secret":
        _check_base64(data)
    problems = [problem for key in data for problem in data_key_problems(key)]
    _refuse(kind, item["metadata"].get("name", ""), [*metadata_problems(item["metadata"]), *problems])
    return {**item, "data": data}


def _check_base64(data: Json) -> None:
    for value in data.values():
        try:
            b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise _undecodable("Secret", "v1.Secret.Data: decode base64: illegal base64 data") from error


def admit_pod(namespace: str, body: Json) -> Json:
    """A pod ready to be stored: checked, with defaults and a Pending status."""
    pod = admit_metadata("Pod", namespace, body)
    spec = with_defaults(pod.get("spec") or {})
    _check_types(spec)
    _refuse("Pod", pod["metadata"].get("name", ""), [*metadata_problems(pod["metadata"]), *spec_problems(spec)])
    return {**pod, "spec": spec, "status": {"phase": "Pending", "qosClass": quality_of_service(spec)}}


def _check_types(spec: Json) -> None:
    """Nothing when numbers are numbers and quantities quantities; 400 otherwise, as from a decoder."""
    for field in ("activeDeadlineSeconds", "terminationGracePeriodSeconds"):
        if not isinstance(spec.get(field, 0), int):
            raise _undecodable("Pod", f"v1.Pod.Spec: v1.PodSpec.{field[0].upper()}{field[1:]}: expects a number")
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for amounts in container["resources"].values():
            _check_quantities(amounts if isinstance(amounts, dict) else {})


def _check_quantities(amounts: Json) -> None:
    for amount in amounts.values():
        try:
            parse_quantity(amount)
        except ValueError as error:
            where = "v1.Pod.Spec: v1.PodSpec.Containers: []v1.Container: v1.Container.Resources"
            raise _undecodable("Pod", f"{where}: quantities must match the regular expression: {error}") from error


def _check_label_types(kind: str, metadata: Json) -> None:
    for field in ("labels", "annotations"):
        if not all(isinstance(value, str) for value in (metadata.get(field) or {}).values()):
            where = f"v1.{kind}.ObjectMeta: v1.ObjectMeta.{field.capitalize()}"
            raise _undecodable(kind, f"{where}: ReadString: expects a string")


def _undecodable(kind: str, why: str) -> ApiFailure:
    return bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {why}')


def check_pod_update(old: Json, new: Json) -> None:
    """Nothing when only what a running pod may change has changed; 400 or 422 otherwise."""
    name, namespace, uid = (old["metadata"][field] for field in ("name", "namespace", "uid"))
    metadata = new["metadata"]
    if metadata.get("name") != name:
        text = f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({name})"
        raise bad_request(text)
    if metadata.get("namespace") != namespace:
        found = f"the namespace of the object ({metadata.get('namespace')})"
        raise bad_request(f"{found} does not match the namespace on the request ({namespace})")
    problems = list(label_problems("metadata.labels", metadata.get("labels") or {}))
    if metadata.get("uid") != uid:
        problems.append(bad_value("metadata.uid", metadata.get("uid"), "field is immutable"))
    if new.get("spec") != old["spec"]:
        problems.append(forbidden("spec", "pod updates may not change fields other than metadata on the local cluster"))
    _refuse("Pod", name, problems)


def _refuse(kind: str, name: str, problems: Iterable[Problem]) -> None:
    """Nothing without a problem; 422 with all of them otherwise."""
    found = tuple(problems)
    if found:
        raise invalid(kind, name, *found)


def unsupported(message: str) -> ApiFailure:
    """501: something Kubernetes can do and this stand-in does not."""
    return ApiFailure(501, "NotImplemented", f"{message} is not supported by the local cluster")
