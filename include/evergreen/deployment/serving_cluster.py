"""The Kubernetes API as a rollout needs it: which replicas serve, and a way to ask each of them.

Every replica is asked through the API server's own proxy (`pods/<name>:<port>/proxy`), so that this works from outside
the cluster's network too. The proxy takes the Authorization header for itself; only what the service
answers without a token can be asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client
from urllib3.exceptions import HTTPError

from evergreen.deployment.connection import TIMEOUT, connect
from evergreen.deployment.replicas import Replica, replicas_of
from evergreen.errors import ConfigurationError, EvergreenError, TemporaryError

SELECTOR = "app.kubernetes.io/name=evergreen-serving"
BIND_ROLE = "Bind Role evergreen-rollout of that namespace to this account (docs/kubernetes.md)."


class ServingCluster:
    """The pods of the serving Deployment in `namespace`."""

    def __init__(self, namespace: str, api: client.ApiClient) -> None:
        self.namespace = namespace
        self._core = client.CoreV1Api(api)
        self._apps = client.AppsV1Api(api)
        self._rights = client.AuthorizationV1Api(api)
        self.where = api.configuration.host

    @classmethod
    def connect(cls, namespace: str, kubeconfig: Path | None) -> ServingCluster:
        """The cluster of `kubeconfig`, or the one this process runs in; ConfigurationError without either."""
        return cls(namespace, connect(kubeconfig))

    def replicas(self) -> list[Replica]:
        """The pods that serve or are about to.

        Raises TemporaryError when the API server does not answer, ConfigurationError when it refuses.
        """
        pods = self._call("list pods", self._core.list_namespaced_pod, self.namespace, label_selector=SELECTOR)
        return replicas_of(pods.items)

    def require_proxy(self) -> None:
        """Returns when this account may ask replicas; ConfigurationError when it may not, TemporaryError as above."""
        for verb in ("get", "create"):
            if not self._may_proxy(verb):
                raise ConfigurationError(
                    f"Kubernetes at {self.where}",
                    found="an account without that right",
                    wanted=f"to {verb} pods/proxy in {self.namespace}",
                    remedy=BIND_ROLE,
                )

    def _may_proxy(self, verb: str) -> bool:
        attributes = client.V1ResourceAttributes(
            namespace=self.namespace, verb=verb, resource="pods", subresource="proxy"
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer = self._call("review its rights", self._rights.create_self_subject_access_review, review)
        return bool(answer.status.allowed)

    def why_empty(self) -> str:
        """Why there is no replica yet, in words; ConfigurationError when there never will be one."""
        listed = self._call(
            "list deployments", self._apps.list_namespaced_deployment, self.namespace, label_selector=SELECTOR
        )
        found = listed.items
        if not any(deployment.spec.replicas for deployment in found):
            raise ConfigurationError(
                f"Namespace {self.namespace} on {self.where}",
                found="a serving Deployment scaled to 0" if found else f"no Deployment labelled {SELECTOR}",
                wanted="a serving Deployment with replicas",
                remedy="Apply docker/kubernetes (docs/kubernetes.md), or correct EVERGREEN_SERVING_NAMESPACE.",
            )
        conditions = [c for deployment in found for c in deployment.status.conditions or ()]
        failures = [f"{c.reason}: {c.message}" for c in conditions if c.type == "ReplicaFailure"]
        return "; ".join(failures) or "no replica yet"

    def asker(self, replica: Replica) -> httpx.BaseTransport:
        """A transport that brings every request to `replica`."""
        return _PodProxy(self._core, replica, self._refused)

    def _call(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, _request_timeout=TIMEOUT, **options)
        except client.ApiException as error:
            raise self._refused(what, error) from error
        except HTTPError as error:
            raise TemporaryError(
                f"Kubernetes at {self.where}",
                found=f"no answer ({error})",
                wanted=f"to {what} in {self.namespace}",
                remedy="See whether the cluster runs and can be reached from here, then deploy again.",
            ) from error

    def _refused(self, what: str, error: client.ApiException) -> EvergreenError:
        known = error.status in (401, 403)
        kind: type[EvergreenError] = ConfigurationError if known else TemporaryError
        remedies = {
            401: "Renew the credentials in the kubeconfig of EVERGREEN_KUBECONFIG.",
            403: BIND_ROLE,
        }
        return kind(
            f"Kubernetes at {self.where}",
            found=f"status {error.status}: {_message(error)}",
            wanted=f"to {what} in {self.namespace}",
            remedy=remedies.get(error.status, "See what the API server's log says, then deploy again."),
        )


class _PodProxy(httpx.BaseTransport):
    """Requests to one pod, by way of the API server."""

    def __init__(
        self, core: client.CoreV1Api, replica: Replica, refused: Callable[[str, client.ApiException], EvergreenError]
    ) -> None:
        self._calls = {
            "GET": core.connect_get_namespaced_pod_proxy_with_path,
            "POST": core.connect_post_namespaced_pod_proxy_with_path,
        }
        self._replica = replica
        self._refused = refused

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The pod's own response; httpx.ConnectError when none came from it."""
        pod = self._replica
        try:
            answer = self._calls[request.method](
                f"{pod.name}:{pod.port}",
                pod.namespace,
                request.url.path.removeprefix("/"),
                _preload_content=False,  # else the client makes Python's repr of the JSON
                _request_timeout=TIMEOUT,
            )
            return httpx.Response(answer.status, content=answer.data)
        except client.ApiException as error:
            return self._failure(request, error)
        except HTTPError as error:
            raise httpx.ConnectError(str(error), request=request) from error

    def _failure(self, request: httpx.Request, error: client.ApiException) -> httpx.Response:
        if not _from_api_server(error):
            return httpx.Response(error.status, text=error.body)
        if error.status in (401, 403):
            verb = "get" if request.method == "GET" else "create"
            raise self._refused(f"{verb} pods/proxy", error)
        raise httpx.ConnectError(_message(error), request=request)


def _from_api_server(error: client.ApiException) -> bool:
    """Whether the API server itself says no, rather than the pod behind it."""
    return bool(_status(error).get("kind") == "Status")


def _message(error: client.ApiException) -> str:
    return str(_status(error).get("message") or error.reason)[:300]


def _status(error: client.ApiException) -> dict[str, Any]:
    try:
        body = json.loads(error.body or "")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
