"""What the API refuses, with which code, reason and causes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException, CoreV1Api

from kube_pods import IMAGE, Pods


def body(name: str = "x", /, *, spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    whole = {"name": "base", "image": IMAGE, "command": ["python", "-c", ""], **container}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [whole], **(spec or {})}}


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    with pytest.raises(ApiException) as refused:
        call()
    status: dict[str, Any] = json.loads(refused.value.body)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", refused.value.status)
    return status


GPU = "nvidia.com/gpu"
TWICE = [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]
MOUNT = {"name": "a", "mountPath": "/x"}
CONTAINER = {"name": "a", "image": "x", "command": ["a"]}

INVALID = {
    "name": (body("Not_A_Name"), "metadata.name", "FieldValueInvalid", "a lowercase RFC 1123 subdomain must consist"),
    "no name": (body(""), "metadata.name", "FieldValueRequired", "name or generateName is required"),
    "long name": (body("x" * 254), "metadata.name", "FieldValueInvalid", "must be no more than 253 characters"),
    "no containers": (body(spec={"containers": []}), "spec.containers", "FieldValueRequired", "Required value"),
    "restart": (
        body(spec={"restartPolicy": "Sometimes"}),
        "spec.restartPolicy",
        "FieldValueNotSupported",
        'supported values: "Always", "OnFailure", "Never"',
    ),
    "container name": (body(name="Base"), "spec.containers[0].name", "FieldValueInvalid", "RFC 1123 label"),
    "no container name": (body(name=""), "spec.containers[0].name", "FieldValueRequired", "Required value"),
    "container twice": (
        body(spec={"containers": [CONTAINER, CONTAINER]}),
        "spec.containers[1].name",
        "FieldValueDuplicate",
        'Duplicate value: "a"',
    ),
    "no image": (body(image=""), "spec.containers[0].image", "FieldValueRequired", "Required value"),
    "pull policy": (
        body(imagePullPolicy="Sometimes"),
        "spec.containers[0].imagePullPolicy",
        "FieldValueNotSupported",
        'supported values: "Always", "IfNotPresent", "Never"',
    ),
    "message policy": (
        body(terminationMessagePolicy="Sometimes"),
        "spec.containers[0].terminationMessagePolicy",
        "FieldValueInvalid",
        "must be 'File' or 'FallbackToLogsOnError'",
    ),
    "volume name": (
        body(spec={"volumes": [{"name": "../up", "emptyDir": {}}]}),
        "spec.volumes[0].name",
        "FieldValueInvalid",
        "a lowercase RFC 1123 label must consist",
    ),
    "volume twice": (body(spec={"volumes": TWICE}), "spec.volumes[1].name", "FieldValueDuplicate", '"a"'),
    "no volume": (
        body(volumeMounts=[MOUNT]),
        "spec.containers[0].volumeMounts[0].name",
        "FieldValueNotFound",
        'Not found: "a"',
    ),
    "mounted over": (
        body(volumeMounts=[MOUNT, MOUNT], spec={"volumes": TWICE[:1]}),
        "spec.containers[0].volumeMounts[1].mountPath",
        "FieldValueInvalid",
        "must be unique",
    ),
    "variable": (body(env=[{"name": "A=B"}]), "spec.containers[0].env[0].name", "FieldValueInvalid", "a valid env"),
    "request over limit": (
        body(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
        "spec.containers[0].resources.requests",
        "FieldValueInvalid",
        'Invalid value: "2": must be less than or equal to cpu limit',
    ),
    "device not its limit": (
        body(resources={"limits": {GPU: "2"}, "requests": {GPU: "1"}}),
        "spec.containers[0].resources.requests",
        "FieldValueInvalid",
        'Invalid value: "1": must be equal to nvidia.com/gpu limit',
    ),
    "device without limit": (
        body(resources={"requests": {GPU: "1"}}),
        "spec.containers[0].resources.limits",
        "FieldValueRequired",
        "Limit must be set for non overcommitable resources",
    ),
    "deadline": (
        body(spec={"activeDeadlineSeconds": 0}),
        "spec.activeDeadlineSeconds",
        "FieldValueInvalid",
        "Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    "node selector": (
        body(spec={"nodeSelector": {"a b": "c"}}), "spec.nodeSelector", "FieldValueInvalid", "name part must consist"
    ),
    "toleration": (
        body(spec={"tolerations": [{"key": "a", "operator": "Sometimes"}]}),
        "spec.tolerations[0].operator",
        "FieldValueNotSupported",
        'supported values: "Equal", "Exists"',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pod", "field", "reason", "message"), INVALID.values(), ids=INVALID)
def test_pod_that_cannot_be_is_422_and_says_where_and_why(
    api: CoreV1Api, namespace: str, pod: dict[str, Any], field: str, reason: str, message: str
) -> None:
    status = refusal(lambda: api.create_namespaced_pod(namespace, pod))
    assert (status["code"], status["reason"], status["details"]["kind"]) == (422, "Invalid", "Pod")
    (cause,) = status["details"]["causes"]
    assert (cause["field"], cause["reason"]) == (field, reason)
    assert message in cause["message"]
    assert status["message"] == f'Pod "{pod["metadata"]["name"]}" is invalid: {field}: {cause["message"]}'


def test_every_problem_is_told_at_once(api: CoreV1Api, namespace: str) -> None:
    status = refusal(lambda: api.create_namespaced_pod(namespace, body("Not_A_Name", image="")))
    fields = [cause["field"] for cause in status["details"]["causes"]]
    assert fields == ["metadata.name", "spec.containers[0].image"]
    assert status["message"].startswith('Pod "Not_A_Name" is invalid: [metadata.name: Invalid value: ')
    status = refusal(lambda: api.create_namespaced_pod(namespace, body(resources={"limits": {"frog": "1"}})))
    assert [cause["field"].rpartition(".")[2] for cause in status["details"]["causes"]] == [
        "limits[frog]", "limits[frog]", "requests[frog]", "requests[frog]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "pod",
    [
        body(resources={"limits": {"memory": "1GiB"}}),
        body(spec={"activeDeadlineSeconds": "soon"}),
        {**body(), "metadata": {"name": "x", "labels": {"a": 1}}},
        {**body(), "kind": "Secret"},
    ],
    ids=["quantity", "number", "label", "kind"],
)
def test_pod_that_cannot_be_read_as_one_is_400(api: CoreV1Api, namespace: str, pod: dict[str, Any]) -> None:
    status = refusal(lambda: api.create_namespaced_pod(namespace, {"apiVersion": "v1", "kind": "Pod", **pod}))
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert 'in version "v1" cannot be handled as a Pod: ' in status["message"]


def test_namespace_of_body_and_path_must_agree(api: CoreV1Api, namespace: str) -> None:
    pod = body()
    pod["metadata"]["namespace"] = "other"
    status = refusal(lambda: api.create_namespaced_pod(namespace, pod))
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    expected = "the namespace of the provided object does not match the namespace sent on the request"
    assert status["message"] == expected


def test_unknown_things_are_404(pods: Pods, api: CoreV1Api) -> None:
    for call in (
        lambda: pods.read("absent"),
        lambda: pods.log("absent"),
        lambda: pods.delete("absent"),
        lambda: api.patch_namespaced_pod("absent", pods.namespace, {}),
    ):
        status = refusal(call)
        assert (status["code"], status["reason"]) == (404, "NotFound")
        assert status["message"] == 'pods "absent" not found'
        assert status["details"] == {"name": "absent", "kind": "pods"}
    status = refusal(lambda: api.create_namespaced_pod("nowhere", body()))
    assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')
    assert api.list_namespaced_pod("nowhere").items == []
    status = refusal(lambda: api.read_namespaced_secret("absent", pods.namespace))
    assert (status["code"], status["message"]) == (404, 'secrets "absent" not found')


def test_name_that_is_taken_is_409(pods: Pods) -> None:
    pods.python("twin", "", nodeSelector={"pool": "none"})
    status = refusal(lambda: pods.python("twin", ""))
    assert (status["code"], status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'pods "twin" already exists'
    assert status["details"] == {"name": "twin", "kind": "pods"}


def test_wrong_token_is_401(api: CoreV1Api, namespace: str) -> None:
    host, authority = api.api_client.configuration.host, api.api_client.configuration.ssl_ca_cert
    settings = client.Configuration(
        host=host, api_key={"authorization": "wrong"}, api_key_prefix={"authorization": "Bearer"}
    )
    settings.ssl_ca_cert = authority
    status = refusal(lambda: CoreV1Api(client.ApiClient(settings)).list_namespaced_pod(namespace))
    assert (status["code"], status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")


def test_method_a_resource_does_not_have_is_405(api: CoreV1Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    status = refusal(lambda: api.api_client.call_api(path, "PUT", body={}, auth_settings=["BearerToken"]))
    assert (status["code"], status["reason"]) == (405, "MethodNotAllowed")
    assert status["message"] == "the server does not allow this method on the requested resource"


def test_patch_that_cannot_be_applied_is_refused(pods: Pods) -> None:
    pods.python("patched", "", nodeSelector={"pool": "none"}, labels={"keep": "1"})
    for patch, code, reason, message in (
        ({"metadata": {"name": "other"}}, 400, "BadRequest", "the name of the object (other) does not match"),
        ({"metadata": {"uid": "other"}}, 422, "Invalid", 'metadata.uid: Invalid value: "other": field is immutable'),
        ({"metadata": {"resourceVersion": "1"}}, 409, "Conflict", "the object has been modified; please apply"),
        ({"metadata": {"labels": {"a": "b c"}}}, 422, "Invalid", 'metadata.labels: Invalid value: "b c": a valid'),
        ({"spec": {"schedulerName": "other"}}, 422, "Invalid", "pod updates may not change fields other than"),
        ([{"op": "remove", "path": "/metadata/labels/absent"}], 422, "Invalid", "the server rejected our request"),
    ):
        status = refusal(lambda patch=patch: pods.api.patch_namespaced_pod("patched", pods.namespace, patch))  # type: ignore[misc]
        assert (status["code"], status["reason"]) == (code, reason)
        assert message in status["message"]
    assert pods.read("patched").metadata.labels == {"keep": "1"}


def test_delete_of_another_uid_is_a_conflict(pods: Pods) -> None:
    uid = pods.python("kept", "", nodeSelector={"pool": "none"}).metadata.uid
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    status = refusal(lambda: pods.delete("kept", body=options))
    assert (status["code"], status["reason"]) == (409, "Conflict")
    found = f"the UID in the precondition (another) does not match the UID in record ({uid})."
    assert found in status["message"]
    assert pods.read("kept").metadata.uid == uid


def test_selector_that_makes_no_sense_is_400(api: CoreV1Api, namespace: str) -> None:
    for options, message in (
        ({"label_selector": "a=(x"}, "unable to parse requirement: found '(', expected: identifier"),
        ({"field_selector": "spec.colour=red"}, "field label not supported: spec.colour"),
        ({"field_selector": "frog"}, "invalid selector: 'frog'; can't understand 'frog'"),
    ):
        status = refusal(lambda options=options: api.list_namespaced_pod(namespace, **options))  # type: ignore[misc]
        assert (status["code"], status["reason"], status["message"]) == (400, "BadRequest", message)


def test_names_that_would_leave_their_directory_are_refused(api: CoreV1Api, namespace: str) -> None:
    status = refusal(lambda: api.create_namespace({"metadata": {"name": "../up"}}))
    assert (status["code"], status["details"]["causes"][0]["field"]) == (422, "metadata.name")
    secret = {"metadata": {"name": "s"}, "stringData": {"../up": "x"}}
    status = refusal(lambda: api.create_namespaced_secret(namespace, secret))
    assert [cause["message"].rpartition('": ')[2][:14] for cause in status["details"]["causes"]] == [
        "a valid config", "must not start"
    ]  # fmt: skip
    options = {"metadata": {"name": "c"}, "data": {"..": "x"}}
    status = refusal(lambda: api.create_namespaced_config_map(namespace, options))
    assert status["message"] == """ConfigMap "c" is invalid: data[..]: Invalid value: "..": must not be '..'"""
